package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// RoleVariable names the function of [Roles] that a process of the test binary performs instead of tests.
const RoleVariable = "SAFEEXEC_TEST_ROLE"

// Roles are programs of a package's own that do what a test's process must not: with other limits,
// another user, other descriptors, or at the risk of a freeze. The files that use them add theirs.
// A role gets its arguments and returns its exit status.
var Roles = map[string]func(args []string) int{}

// RoleCommand returns the command that performs a role. Like all helpers it is to be started by
// os/exec: it is a bystander of the test.
func RoleCommand(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(Deadline(t), exe, args...)
	cmd.Env = append(os.Environ(), RoleVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// performRole does not return if this process has a role.
func performRole() {
	name, ok := os.LookupEnv(RoleVariable)
	if !ok {
		return
	}
	os.Unsetenv(RoleVariable)
	role := Roles[name]
	if role == nil {
		fmt.Fprintf(os.Stderr, "%s: nothing is called %q\n", RoleVariable, name)
		os.Exit(2)
	}
	os.Exit(role(os.Args[1:]))
}
