package safeexec

import "os/exec"

// Command is [exec.Command], for code in which a linter flags that one: what it returns is to be given to [Run] or
// its kin, which bound it.
func Command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }
