//go:build unix

package testproc

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// startTree starts a helper with a canary.
func startTree(t *testing.T, cmd *exec.Cmd) (*os.File, *Canary) {
	t.Helper()
	canary := NewCanary(t)
	cmd.ExtraFiles = []*os.File{canary.File()}
	r := start(t, cmd)
	canary.CloseParent()
	return r, canary
}

// kill kills processes of a tree whose canary is alive.
func kill(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
}

func waitStatus(t *testing.T, cmd *exec.Cmd) syscall.WaitStatus {
	t.Helper()
	cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus)
}

func TestCloseStdoutHang(t *testing.T) {
	cmd := Command("close-stdout-hang")
	r, canary := startTree(t, cmd)
	Ready(t, r)
	rest, err := io.ReadAll(r)
	require.NoError(t, err, "end of the stream")
	assert.Empty(t, rest)
	assert.True(t, canary.Alive())
	kill(t, cmd.Process.Pid)
	canary.WaitGone(t)
	assert.False(t, canary.Alive())
}

func TestIgnore(t *testing.T) {
	cmd := Command("ignore", "TERM", "SIGINT", "USR1")
	r, canary := startTree(t, cmd)
	Ready(t, r)
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1} {
		require.NoError(t, cmd.Process.Signal(sig))
	}
	kill(t, cmd.Process.Pid)
	assert.Equal(t, syscall.SIGKILL, waitStatus(t, cmd).Signal())
	canary.WaitGone(t)
}

func TestExitBySignal(t *testing.T) {
	for _, name := range []string{"TERM", "KILL", "QUIT", "SEGV", "ABRT", "PIPE", "HUP"} {
		cmd := Command("exit-by-signal", name)
		status := waitStatus(t, startCommand(t, cmd))
		assert.True(t, status.Signaled(), name)
		assert.Equal(t, signals[name], status.Signal(), name)
		assert.False(t, status.CoreDump(), name)
	}
}

func startCommand(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	require.NoError(t, cmd.Start())
	return cmd
}

func TestTermExit(t *testing.T) {
	cmd := Command("term-exit", "7")
	r := start(t, cmd)
	Ready(t, r)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.Equal(t, "terminated", ReadLine(t, r))
	assert.Equal(t, 7, waitStatus(t, cmd).ExitStatus())
}

func TestHear(t *testing.T) {
	cmd := Command("hear", "USR1", "CONT")
	r := start(t, cmd)
	Ready(t, r)
	for _, sig := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGCONT, syscall.SIGUSR1} {
		require.NoError(t, cmd.Process.Signal(sig))
		assert.Equal(t, strconv.Itoa(int(sig)), ReadLine(t, r))
	}
}

func TestHoldFD(t *testing.T) {
	cmd := Command("hold-fd", "3")
	r, canary := startTree(t, cmd)
	Ready(t, r)
	_, err := io.ReadAll(r)
	require.NoError(t, err, "standard output was closed")
	assert.True(t, canary.Alive())
}

func TestHoldFDStdout(t *testing.T) {
	cmd := Command("hold-fd", "1")
	r, canary := startTree(t, cmd)
	Ready(t, r)
	canary.WaitGone(t) // its descriptor was closed
	require.NoError(t, syscall.Kill(cmd.Process.Pid, 0))
}

func TestFork(t *testing.T) {
	cmd := Command("fork", "3")
	r, canary := startTree(t, cmd)
	pids := Ready(t, r)
	require.Len(t, pids, 4)
	assert.Equal(t, cmd.Process.Pid, pids[0])
	for _, pid := range pids[:3] {
		kill(t, pid)
		assert.True(t, canary.Alive())
	}
	kill(t, pids[3])
	canary.WaitGone(t)
}

func TestForkTerm(t *testing.T) {
	for _, args := range [][]string{nil, {"setsid"}} {
		cmd := Command("fork-term", args...)
		r, canary := startTree(t, cmd)
		seen := map[int]bool{Ready(t, r)[0]: true}
		pid := cmd.Process.Pid
		for range 3 {
			require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
			pid = lastNumber(t, ReadLine(t, r))
			assert.False(t, seen[pid])
			seen[pid] = true
			assert.True(t, canary.Alive())
			if args != nil {
				assert.Equal(t, pid, session(t, pid))
			}
		}
		assert.Zero(t, waitStatus(t, cmd).ExitStatus())
		kill(t, pid)
		canary.WaitGone(t)
	}
}

func lastNumber(t *testing.T, line string) int {
	t.Helper()
	n, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
	require.NoError(t, err, line)
	return n
}

// session returns the process group, which for a session's leader is the session.
func session(t *testing.T, pid int) int {
	t.Helper()
	pgid, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	return pgid
}

func TestBackground(t *testing.T) {
	cmd := Command("background")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, canary := startTree(t, cmd)
	line := ReadLine(t, r)
	pid := lastNumber(t, line)
	assert.Equal(t, fmt.Sprint("start ok ", pid), line)
	assert.Zero(t, waitStatus(t, cmd).ExitStatus())
	assert.True(t, canary.Alive())
	pgid, err := syscall.Getpgid(pid)
	require.NoError(t, err)
	assert.Equal(t, cmd.Process.Pid, pgid)
	kill(t, pid)
	canary.WaitGone(t)
	_, err = io.ReadAll(r)
	require.NoError(t, err, "it held standard output")
}

func TestDaemonize(t *testing.T) {
	cmd := Command("daemonize")
	r, canary := startTree(t, cmd)
	pids := Ready(t, r)
	require.Len(t, pids, 2)
	assert.Equal(t, cmd.Process.Pid, pids[0])
	assert.Zero(t, waitStatus(t, cmd).ExitStatus())
	assert.True(t, canary.Alive())
	pgid, err := syscall.Getpgid(pids[1])
	require.NoError(t, err)
	assert.NotEqual(t, syscall.Getpgrp(), pgid)
	assert.NotEqual(t, pids[1], pgid, "it leads no session")
	kill(t, pids[1])
	canary.WaitGone(t)
}

func TestGrandchildTerm(t *testing.T) {
	cmd := Command("grandchild-term")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	r, canary := startTree(t, cmd)
	pids := Ready(t, r)
	require.Len(t, pids, 2)
	require.NoError(t, syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM))
	assert.Equal(t, "child got TERM", ReadLine(t, r))
	_, err = cmd.Process.Wait() // cmd.Wait would close the pipe
	require.NoError(t, err)
	assert.True(t, canary.Alive())
	require.NoError(t, in.Close())
	assert.Equal(t, "child done", ReadLine(t, r))
	canary.WaitGone(t)
}
