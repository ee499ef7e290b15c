package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// Environment of a helper process. A helper removes the first two before it does anything else.
const (
	// Selector names the helper to run. It is exported for tests that start the test binary
	// through another program: env -i SAFEEXEC_TEST_HELPER=hang /path/to/the/test.
	Selector = "SAFEEXEC_TEST_HELPER"
	// readyFD is the number of an inherited descriptor that the ready line goes to instead of
	// standard output: a helper that starts a helper waits for it in private.
	readyFD = "SAFEEXEC_TEST_READY_FD"
	// lifeTime replaces the ten minutes after which a helper is ended. It stays in the environment.
	lifeTime = "SAFEEXEC_TEST_HELPER_LIFE"
)

// started records for Main which helpers a test asked for.
var started struct {
	sync.Mutex
	names map[string]bool
}

// Command returns the command that runs a helper of the test binary, ready to be started. Its Env is
// set: a test adds variables with cmd.Env = append(cmd.Environ(), …) and must keep [Selector]. The
// first argument of the process is the helper's name, for whoever reads ps. Command panics if this
// platform has no such helper.
func Command(name string, args ...string) *exec.Cmd {
	if helpers[name] == nil {
		panic(fmt.Sprintf("testproc: no helper %q", name))
	}
	started.Lock()
	if started.names == nil {
		started.names = make(map[string]bool)
	}
	started.names[name] = true
	started.Unlock()

	exe, err := os.Executable()
	if err != nil {
		panic(fmt.Sprintf("testproc: %v", err))
	}
	cmd := exec.Command(exe, append([]string{name}, args...)...)
	// The race detector sleeps for a second at exit unless told otherwise.
	gorace := strings.TrimSpace(os.Getenv("GORACE") + " atexit_sleep_ms=0")
	cmd.Env = append(os.Environ(), Selector+"="+name, "GORACE="+gorace)
	return cmd
}
