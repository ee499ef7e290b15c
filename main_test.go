package safeexec_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// roleVariable names the function of roles that a process of this binary performs instead of tests.
const roleVariable = "SAFEEXEC_TEST_ROLE"

// roles are programs that call safeexec where a test's own process must not: with other limits,
// another user, other descriptors, or at the risk of a freeze. The files that use them add theirs.
// A role gets its arguments and returns its exit status.
var roles = map[string]func(args []string) int{}

// bound is far more than any test needs. No result depends on it but that it was not reached.
const bound = time.Minute

func TestMain(m *testing.M) {
	if unknown := sys.Disable(testproc.Disabled()...); unknown != "" {
		fmt.Fprintf(os.Stderr, "%s: nothing is called %q\n", testproc.DisableVariable, unknown)
		os.Exit(2)
	}
	if name, ok := os.LookupEnv(roleVariable); ok {
		os.Unsetenv(roleVariable)
		role := roles[name]
		if role == nil {
			fmt.Fprintf(os.Stderr, "%s: nothing is called %q\n", roleVariable, name)
			os.Exit(2)
		}
		os.Exit(role(os.Args[1:]))
	}
	testproc.Main(m,
		testproc.Uses("exit", "spew", "spew-forever", "echo-stdin", "args", "cwd", "ignore"),
		testproc.Warm(warm), testproc.Idle(poll.CloseIdle))
}

// warm opens what safeexec keeps for the life of the process.
func warm() {
	res, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(bound))
	if err != nil {
		fmt.Fprintf(os.Stderr, "warming up: %v, %+v\n", err, res)
	}
}

// roleCommand returns the command that performs a role. Like all helpers it is to be started by
// os/exec: it is a bystander of the test.
func roleCommand(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(testproc.Deadline(t), exe, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+name, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// withCanary gives the command, and all that descends from it, a canary as its last descriptor.
func withCanary(t testing.TB, cmd *exec.Cmd) *testproc.Canary {
	t.Helper()
	canary := testproc.NewCanary(t)
	cmd.ExtraFiles = append(cmd.ExtraFiles, canary.File())
	return canary
}
