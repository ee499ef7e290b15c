package incidents

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() { testproc.Roles["tree-without-proc"] = treeWithoutProc }

// treeWithoutProc runs a command that leaves a daemon behind, where there is no /proc, or none any more.
func treeWithoutProc(args []string) int {
	daemon := func() (safeexec.Result, error) {
		return safeexec.Run(context.Background(), exec.Command("sh", "-c", `x=$(setsid sh -c 'echo $$; exec sleep 600 >/dev/null' </dev/null 2>/dev/null &); echo $x`),
			safeexec.WithTimeout(testrun.Bound))
	}
	if args[0] == "before" {
		if _, err := daemon(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("none", "/proc", "tmpfs", 0, "")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	res, err := daemon()
	fmt.Println(os.Getpid() > 1<<15, len(res.Killed) == 1 && strconv.Itoa(res.Killed[0].PID) == strings.TrimSpace(res.Stdout.String()),
		errors.Is(err, safeexec.ErrTreeUnseen), err == nil)
	return 0
}

// TestIncidentNoProc: without /proc, processes with numbers above 32768 were not looked for, and a daemon lived on with
// a nil error.
//
// It is found, since its number follows its leader's. That there are no others is known only if the highest number is
// known.
func TestIncidentNoProc(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	var major, minor int
	_, _ = fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	if major < 6 || major == 6 && minor < 14 {
		t.Skipf("needs a pid_max of the namespace's own, Linux 6.14; this is %s", release)
	}
	before, never := "true true false true", "true true true false"
	if testproc.IsDisabled("pidfd") { // nothing pins the number of one that is found, so it is left alone
		before, never = "true false true false", "true false true false"
	}
	answer := func(when string) string {
		cmd := testproc.RoleCommand(t, "tree-without-proc", when)
		// The last PID is a way around the numbers.
		cmd.Env = append(cmd.Env, testproc.DisableVariable+"="+strings.Join(append(testproc.Disabled(), "loadavg"), ","))
		cmd.Args = []string{unshare, "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
			`echo 40000 >/proc/sys/kernel/pid_max && echo 33000 >/proc/sys/kernel/ns_last_pid && "$0" "$@"; exit $?`, cmd.Path, when}
		cmd.Path = unshare
		out, err := cmd.Output()
		require.NoError(t, err)
		return strings.TrimSpace(string(out))
	}
	testproc.Wait(t, func() bool { // until the machine is not too busy for a look to be believed
		got := answer("before")
		if got != never {
			assert.Equal(t, before, got)
		}
		return got == before || t.Failed()
	})
	assert.Equal(t, never, answer("never"))
}
