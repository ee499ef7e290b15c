//go:build linux

package safeexectest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	warm := func() {
		_, _ = safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(time.Minute))
	}
	testproc.Main(m, testproc.Uses("exit"), testproc.Warm(warm), testproc.Idle(poll.CloseIdle))
}

// A recorder is a test whose failures are what is tested.
type recorder struct {
	testing.TB
	cleanups []func()
	errors   []string
}

func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Helper()          {}
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

// end ends the test and returns what it failed with.
func (r *recorder) end() []string {
	for i := len(r.cleanups) - 1; i >= 0; i-- {
		r.cleanups[i]()
	}
	return r.errors
}

func TestNoLeakedFDs(t *testing.T) {
	clean := &recorder{TB: t}
	NoLeakedFDs(clean)
	f, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer f.Close()
	assert.Empty(t, clean.end(), "what Go opens")

	leaks := &recorder{TB: t}
	NoLeakedFDs(leaks)
	fd, err := syscall.Open("/dev/full", syscall.O_WRONLY, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	found := leaks.end()
	require.Len(t, found, 1)
	assert.Contains(t, found[0], fmt.Sprintf("descriptor %d: device /dev/full", fd))

	before := &recorder{TB: t}
	NoLeakedFDs(before)
	assert.Empty(t, before.end(), "what was there before")

	other := &recorder{TB: t}
	NoLeakedFDs(other)
	require.NoError(t, syscall.Dup3(int(f.Fd()), fd, 0))
	assert.Len(t, other.end(), 1, "another file under the same number")
}

func TestNoLeakedProcesses(t *testing.T) {
	before := settleTime
	defer func() { settleTime = before }()
	settleTime = 200 * time.Millisecond

	clean := &recorder{TB: t}
	NoLeakedProcesses(clean)
	require.NoError(t, exec.Command("true").Run())
	assert.Empty(t, clean.end())

	running := &recorder{TB: t}
	NoLeakedProcesses(running)
	child := exec.Command("sleep", "600")
	require.NoError(t, child.Start())
	found := running.end()
	require.Len(t, found, 1)
	assert.Contains(t, found[0], fmt.Sprintf("process %d (\"sleep\") is left, running", child.Process.Pid))
	assert.True(t, testproc.Dead(child.Process.Pid), "what is left is killed")
	_ = child.Process.Release()

	zombie := &recorder{TB: t}
	NoLeakedProcesses(zombie)
	child = exec.Command("true")
	require.NoError(t, child.Start())
	testproc.WaitState(t, child.Process.Pid, "Z")
	found = zombie.end()
	require.Len(t, found, 1)
	assert.Contains(t, found[0], "a zombie")
	_ = child.Wait()

	daemon := &recorder{TB: t}
	NoLeakedProcesses(daemon)
	out, err := exec.Command("sh", "-c", "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo $!").Output()
	require.NoError(t, err)
	var pid int
	_, err = fmt.Sscan(string(out), &pid)
	require.NoError(t, err)
	later := &recorder{TB: t}
	NoLeakedProcesses(later)
	assert.Empty(t, later.end(), "another test's")
	assert.Len(t, daemon.end(), 1, "handed on to somebody else")
	testproc.WaitState(t, pid, "ZX\x00")
	assert.Empty(t, os.Getenv(markVariable))
}
