package sys

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// start starts a helper in a session of its own and waits until it is ready. It is killed and reaped
// at the end of the test.
func start(t *testing.T, name string, args ...string) (cmd *exec.Cmd, pids []int) {
	t.Helper()
	cmd = testproc.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	pid := cmd.Process.Pid
	t.Cleanup(func() {
		syscall.Kill(-pid, syscall.SIGKILL) // the unreaped leader pins the number
		cmd.Wait()
	})
	return cmd, testproc.Ready(t, stdout)
}

func TestExitedUnreaped(t *testing.T) {
	cmd, _ := start(t, "hang")
	pid := cmd.Process.Pid
	exited, err := ExitedUnreaped(pid)
	assert.NoError(t, err)
	assert.False(t, exited, "is alive")

	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	testproc.WaitState(t, pid, "T")
	exited, err = ExitedUnreaped(pid)
	assert.NoError(t, err)
	assert.False(t, exited, "is stopped")

	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	require.NoError(t, WaitExit(pid))
	assert.Equal(t, byte('Z'), testproc.State(pid), "WaitExit does not reap")
	for range 2 {
		exited, err = ExitedUnreaped(pid)
		assert.NoError(t, err)
		assert.True(t, exited, "is a zombie, and stays one")
	}
	require.NoError(t, WaitExit(pid))

	assert.Error(t, cmd.Wait())
	_, err = ExitedUnreaped(pid)
	assert.ErrorIs(t, err, syscall.ECHILD)
	assert.ErrorIs(t, WaitExit(pid), syscall.ECHILD)
}

func TestExitedUnreapedOfStranger(t *testing.T) {
	for _, pid := range []int{1, os.Getpid(), 1 << 22} {
		exited, err := ExitedUnreaped(pid)
		assert.ErrorIs(t, err, syscall.ECHILD)
		assert.False(t, exited)
	}
}

func TestSessionAndGroup(t *testing.T) {
	_, pids := start(t, "fork", "1")
	for _, pid := range pids {
		sid, err := Session(pid)
		assert.NoError(t, err)
		assert.Equal(t, pids[0], sid)
		pgid, err := Group(pid)
		assert.NoError(t, err)
		assert.Equal(t, pids[0], pgid)
	}
	// A zombie keeps its numbers.
	require.NoError(t, Kill(pids[0], syscall.SIGKILL))
	require.NoError(t, WaitExit(pids[0]))
	sid, err := Session(pids[0])
	assert.NoError(t, err)
	assert.Equal(t, pids[0], sid)

	_, err = Session(1 << 22)
	assert.True(t, Gone(err))
	_, err = Group(1 << 22)
	assert.True(t, Gone(err))
	assert.False(t, Gone(nil))
	assert.False(t, Gone(syscall.EPERM))
}

func TestPidfd(t *testing.T) {
	skipDisabled(t, "pidfd")
	cmd, _ := start(t, "hang")
	fd, err := PidfdOpen(cmd.Process.Pid)
	require.NoError(t, err)
	defer Close(fd)
	found, err := Ready(fd)
	require.NoError(t, err)
	assert.False(t, found.Readable, "is alive")
	assert.NoError(t, PidfdSignal(fd, 0))

	require.NoError(t, PidfdSignal(fd, syscall.SIGKILL))
	require.NoError(t, WaitExit(cmd.Process.Pid))
	found, err = Ready(fd)
	require.NoError(t, err)
	assert.True(t, found.Readable, "a zombie is dead")
	assert.Error(t, cmd.Wait())
	assert.True(t, Gone(PidfdSignal(fd, syscall.SIGKILL)), "and the number cannot come to mean another")

	_, err = PidfdOpen(1 << 22)
	assert.True(t, Gone(err))
	_, err = PidfdOpen(-1)
	assert.Error(t, err)
}

// One call reaches the whole group: the leader and its child.
func TestPidfdSignalGroup(t *testing.T) {
	skipDisabled(t, "pidfd")
	canary := testproc.NewCanary(t)
	cmd := testproc.Command("fork", "2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{canary.File()}
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	canary.CloseParent()
	pids := testproc.Ready(t, stdout)
	fd, err := PidfdOpen(pids[0])
	require.NoError(t, err)
	defer Close(fd)

	if errors.Is(PidfdSignalGroup(fd, 0), syscall.EINVAL) {
		Kill(-pids[0], syscall.SIGKILL)
		t.Skip("needs PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9")
	}
	// A child leads no group: there is none of its number.
	child, err := PidfdOpen(pids[1])
	require.NoError(t, err)
	defer Close(child)
	assert.True(t, Gone(PidfdSignalGroup(child, syscall.SIGKILL)))
	assert.True(t, canary.Alive())

	// The leader as a zombie still names the group.
	require.NoError(t, PidfdSignal(fd, syscall.SIGKILL))
	require.NoError(t, WaitExit(pids[0]))
	assert.False(t, testproc.Dead(pids[1]))
	require.NoError(t, PidfdSignalGroup(fd, syscall.SIGKILL))
	canary.WaitGone(t)
}
