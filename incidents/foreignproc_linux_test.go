package incidents

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["foreign-proc"] = foreignProc
	testproc.Roles["foreign-thread"] = foreignThread
}

// foreignProc is PID 1 of a namespace of its own, and /proc shows the one outside.
func foreignProc(args []string) int {
	if len(args) > 0 {
		if self, err := os.Readlink("/proc/self"); self != strconv.Itoa(os.Getpid()) {
			fmt.Println("another number", self, os.Getpid(), err)
			return 1
		}
	}
	cmd := exec.Command("sh", "-c", "setsid sleep 600 & sleep 600 & exit 0")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithLinger(0), safeexec.WithGracePeriod(0),
		safeexec.WithKillTimeout(0), safeexec.WithDrainTimeout(testrun.Soon))
	fmt.Println("unseen", errors.Is(err, safeexec.ErrTreeUnseen))
	fmt.Println("named", len(res.Killed)+len(res.Survivors)+len(res.Holders))
	_, err = safeexec.Explain(context.Background(), os.Getpid())
	fmt.Println("explain", errors.Is(err, safeexec.ErrTreeUnseen))
	_, err = safeexec.KillTree(context.Background(), safeexec.ProcessInfo{PID: 2, StartTicks: 1}, safeexec.WithTimeout(testrun.Bound))
	fmt.Println("killtree", err != nil)
	return 0
}

// TestIncidentForeignProc: after unshare --pid without a /proc of its own, each number in /proc means another process.
// A run named strangers as members of its tree, and on older kernels could have signaled one.
//
// No process is named or signaled by it, and the Result says that the tree could not be looked at.
func TestIncidentForeignProc(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	cmd := testproc.RoleCommand(t, "foreign-proc")
	cmd.Args = append([]string{unshare, "--pid", "--fork", "--kill-child", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = unshare
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, []string{"unseen true", "named 0", "explain true", "killtree true"}, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// TestIncidentForeignProcWithOurNumber is that where the process has the same number in both namespaces.
func TestIncidentForeignProcWithOurNumber(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	cmd := testproc.RoleCommand(t, "foreign-proc")
	// The outer shell has number 1, unshare 5000, the inner shell 5001 outside and 1 inside, the command 5002 in both.
	cmd.Args = []string{unshare, "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c",
		`echo 4999 >/proc/sys/kernel/ns_last_pid
		unshare --pid --fork --kill-child sh -c 'echo 5001 >/proc/sys/kernel/ns_last_pid; "$0" same; exit $?' "$0"; exit $?`,
		cmd.Path}
	cmd.Path = unshare
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, []string{"unseen true", "named 0", "explain true", "killtree true"}, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// foreignThread runs a command on a thread that has a mount namespace of its own, and one on another thread. The /proc
// of one of them is foreign.
func foreignThread([]string) int {
	run := func(kill time.Duration) string {
		cmd := exec.Command("sh", "-c", `x=$(prlimit --rttime=5000000000000000000: setsid sh -c 'echo $$; exec sleep 600 >/dev/null' </dev/null 2>/dev/null &)`)
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithLinger(0),
			safeexec.WithGracePeriod(0), safeexec.WithKillTimeout(kill))
		return fmt.Sprint("unseen ", errors.Is(err, safeexec.ErrTreeUnseen), " killed ", len(res.Killed))
	}
	own := make(chan string)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := errors.Join(unix.Unshare(unix.CLONE_NEWNS|unix.CLONE_FS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		if err == nil {
			err = unix.Mount("proc", "/proc", "proc", 0, "")
		}
		if err != nil {
			own <- err.Error()
			return
		}
		own <- run(testrun.Bound)
	}()
	fmt.Println("own", <-own)
	fmt.Println("other", run(0))
	return 0
}

// TestIncidentForeignProcOfAThread is that where one thread alone has the /proc of its own PID namespace.
func TestIncidentForeignProcOfAThread(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	testproc.HasProgram(t, "prlimit")
	cmd := testproc.RoleCommand(t, "foreign-thread")
	cmd.Args = append([]string{unshare, "--pid", "--fork", "--kill-child", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = unshare
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, []string{"own unseen false killed 1", "other unseen true killed 0"}, strings.Split(strings.TrimSpace(string(out)), "\n"))
}
