package proctree

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestStanding(t *testing.T) {
	s := start(t, testproc.Command("fork", "0"))
	testproc.Ready(t, s.stdout)
	assert.Equal(t, running, s.tree.standing())
	s.tree.LendPidfd(func(fd int) { assert.Equal(t, running, held(fd)) })
	s.endLeader(t)
	assert.Equal(t, zombie, s.tree.standing())
	s.tree.LendPidfd(func(fd int) { assert.Equal(t, zombie, held(fd)) })
	_, err := syscall.Wait4(s.cmd.Process.Pid, nil, 0, nil)
	require.NoError(t, err)
	assert.Equal(t, reaped, s.tree.standing())
	s.tree.LendPidfd(func(fd int) { assert.Equal(t, reaped, held(fd)) })
	_ = s.cmd.Wait()
	assert.Equal(t, reaped, s.tree.standing(), "its pidfd is closed")
}

// To waitid(2) a process that is no child of ours is ECHILD, and so is a child that other code has reaped.
func TestNoChildIsNoExit(t *testing.T) {
	skipDisabled(t, "pidfd")
	s := start(t, testproc.Command("fork", "1"))
	pids := testproc.Ready(t, s.stdout)
	p, err := os.FindProcess(pids[1])
	require.NoError(t, err)
	defer p.Release()
	var tree Tree
	tree.Init(Origin{Process: p})
	defer tree.Close()
	_, err = waited(p.Pid)
	require.ErrorIs(t, err, syscall.ECHILD)
	assert.False(t, tree.LeaderExited())
	assert.True(t, tree.Pinned())

	require.NoError(t, p.Kill())
	waitDead(t, p.Pid)
	assert.True(t, tree.LeaderExited())
	tree.WaitLeader()
	s.endLeader(t)
	s.WaitGone(t)
}

// The kernel reaps at the exit.
func TestLeaderWithoutSIGCHLD(t *testing.T) {
	signal.Ignore(syscall.SIGCHLD)
	defer func() { // signal.Reset leaves it ignored
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGCHLD)
		signal.Stop(c)
	}()
	s := start(t, exec.Command("cat"))
	assert.Equal(t, running, s.tree.standing())
	assert.False(t, s.tree.LeaderExited())
	require.NoError(t, s.stdin.Close())
	s.tree.WaitLeader()
	assert.Equal(t, reaped, s.tree.standing())
	assert.False(t, s.tree.Pinned())
	assert.True(t, s.tree.LeaderExited())
}
