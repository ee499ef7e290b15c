package safeexec_test

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

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func init() { roles["foreign-proc"] = foreignProc }

// foreignProc is PID 1 of a namespace of its own, and /proc shows the one outside.
func foreignProc(args []string) int {
	if len(args) > 0 {
		if self, err := os.Readlink("/proc/self"); self != strconv.Itoa(os.Getpid()) {
			fmt.Println("another number", self, os.Getpid(), err)
			return 1
		}
	}
	cmd := exec.Command("sh", "-c", "setsid sleep 600 & sleep 600 & exit 0")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(bound), safeexec.WithLinger(0), safeexec.WithGracePeriod(0),
		safeexec.WithKillTimeout(0))
	fmt.Println("unseen", errors.Is(err, safeexec.ErrTreeUnseen))
	fmt.Println("named", len(res.Killed)+len(res.Survivors)+len(res.Holders))
	_, err = safeexec.Explain(context.Background(), os.Getpid())
	fmt.Println("explain", errors.Is(err, safeexec.ErrTreeUnseen))
	_, err = safeexec.KillTree(context.Background(), safeexec.ProcessInfo{PID: 2, StartTicks: 1}, safeexec.WithTimeout(bound))
	fmt.Println("killtree", err != nil)
	return 0
}

// TestForeignProc runs where /proc was mounted for another PID namespace: each number in there means another process.
// No process is named or signaled by it, and the Result says that the tree could not be looked at.
func TestForeignProc(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	cmd := roleCommand(t, "foreign-proc")
	cmd.Args = append([]string{unshare, "--pid", "--fork", "--kill-child", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = unshare
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, []string{"unseen true", "named 0", "explain true", "killtree true"}, strings.Split(strings.TrimSpace(string(out)), "\n"))
}

// TestForeignProcWithOurNumber is that where the process has the same number in both namespaces.
func TestForeignProcWithOurNumber(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	cmd := roleCommand(t, "foreign-proc")
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
