package reports_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// python starts a script.
func python(t *testing.T, script string, args ...string) int {
	t.Helper()
	cmd := testproc.BystanderCommand(t, "python3", append([]string{"-c", script}, args...)...)
	cmd.Stderr = os.Stderr
	return testproc.StartBystander(t, cmd)
}

// process returns the process of a report that has the name, or fails the test.
func process(t *testing.T, report *safeexec.Report, name string) *safeexec.ReportProcess {
	t.Helper()
	for i := range report.Processes {
		if strings.HasPrefix(report.Processes[i].Name, name) {
			return &report.Processes[i]
		}
	}
	t.Fatalf("no process is called %s:\n%v", name, report)
	return nil
}

func TestExplainSleep(t *testing.T) {
	t.Parallel()
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "sleep", "600"))
	const verdict = `^\d+ sleep is blocked in clock_nanosleep\(\), (9m\d+s|10m0s) left$`
	testrun.Explained(t, pid, verdict)
	report := testrun.Explained(t, pid, verdict) // all of this one is of a process that sleeps already
	assert.True(t, report.Found)
	assert.False(t, report.Deadlock)
	require.Len(t, report.Processes, 1)
	p := report.Processes[0]
	assert.Equal(t, safeexec.RoleRoot, p.Role)
	assert.Equal(t, os.Getpid(), p.PPID)
	assert.Nil(t, p.Command, "not without WithRedact")
	assert.Equal(t, "S", p.State)
	require.Len(t, p.Threads, 1)
	assert.InDelta(t, 10*time.Minute, p.Threads[0].Left, float64(time.Minute))
}

func TestExplainBusy(t *testing.T) {
	t.Parallel()
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "sh", "-c", "while :; do :; done"))
	report := testrun.Explained(t, pid, `^\d+ \w+ is running, \d+ % of a core$`)
	assert.True(t, report.Found)
	assert.GreaterOrEqual(t, report.Processes[0].Cores, 0.0)
}

func TestExplainStopped(t *testing.T) {
	t.Parallel()
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "sleep", "600"))
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	report := testrun.Explained(t, pid, `^\d+ sleep is stopped and waits for SIGCONT$`)
	assert.True(t, report.Found)
	assert.Equal(t, "T", report.Processes[0].State)
}

// A zombie that its parent does not reap: the shell has become sleep, which knows of no children.
func TestExplainZombie(t *testing.T) {
	t.Parallel()
	parent := testproc.StartBystander(t, testproc.BystanderCommand(t, "sh", "-c", "true & exec sleep 600"))
	testproc.WaitState(t, parent, "S")
	testrun.Explained(t, parent, `clock_nanosleep`)
	children, err := procfs.Children(parent)
	require.NoError(t, err)
	require.Len(t, children, 1)
	testproc.WaitState(t, children[0], "Z")
	report := testrun.Explained(t, children[0],
		fmt.Sprintf(`^%d \w+ has exited and is not reaped by %d sleep; %d sleep is blocked in clock_nanosleep`, children[0], parent, parent))
	assert.True(t, report.Found)
	assert.Equal(t, "Z", report.Processes[0].State)
}

// dash waits for a child by waiting for a signal.
func TestExplainSignal(t *testing.T) {
	t.Parallel()
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "dash", "-c", "sleep 600 & wait"))
	testrun.Explained(t, pid, `^\d+ dash is blocked in rt_sigsuspend\(\) for a signal, and has the child (\d+)[^;]*; \d+ sleep is blocked in`)
	pid = python(t, "import signal; signal.pause()")
	report := testrun.Explained(t, pid, `^\d+ \S+ is blocked in pause\(\) for a signal`)
	assert.True(t, report.Found)
}

// mutexes are two threads that take two mutexes of glibc in opposite order.
const mutexes = `
import ctypes, threading
c = ctypes.CDLL(None)
a, b = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
both = threading.Barrier(2)
def take(x, y):
    c.pthread_mutex_lock(x); both.wait(); c.pthread_mutex_lock(y)
threads = [threading.Thread(target=take, args=p) for p in ((a, b), (b, a))]
for t in threads: t.start()
for t in threads: t.join()
`

func TestExplainFutexDeadlock(t *testing.T) {
	t.Parallel()
	pid := python(t, mutexes)
	report := testrun.Explained(t, pid, `^deadlock: \d+ \S+ thread (\d+) is blocked in futex\(\) for thread (\d+)[^;]*; `+
		`\d+ \S+ thread (\d+) is blocked in futex\(\) for thread (\d+)`)
	assert.True(t, report.Deadlock)
	assert.True(t, report.Found)
	require.Len(t, report.Chain, 2)
	assert.NotEqual(t, report.Chain[0].TID, report.Chain[1].TID)
	assert.Len(t, report.Processes[0].Threads, 3)
}

// The child is full on standard error while the parent reads its standard output.
const subprocessDeadlock = `
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stderr.write('x' * 1000000)"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
child.stdout.read()
`

func TestExplainSubprocessDeadlock(t *testing.T) {
	t.Parallel()
	pid := python(t, subprocessDeadlock)
	report := testrun.Explained(t, pid, fmt.Sprintf(`^deadlock: %d \S+ is blocked in read\(\d+ → pipe, 0 of 65536 bytes, writer (\d+) [^;]*; `+
		`(\d+) \S+ is blocked in write\(2 → pipe, 65536 of 65536 bytes, reader %d `, pid, pid))
	assert.True(t, report.Deadlock)
	assert.True(t, report.Found)
	require.Len(t, report.Chain, 2)
}

// What looks like that but has a third process that could end it is no deadlock.
func TestExplainNoDeadlock(t *testing.T) {
	t.Parallel()
	pid := python(t, `
import os, subprocess, sys
r, w = os.pipe()
other = subprocess.Popen(["sleep", "600"], pass_fds=[w])
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read(1)"], stdin=subprocess.PIPE, pass_fds=[w])
os.close(w)
os.read(r, 1)
`)
	report := testrun.Explained(t, pid, `is blocked in read\(\d+ → pipe, 0 of 65536 bytes, writer \d+ sleep, \d+ python`)
	assert.False(t, report.Deadlock, report)
}

func TestExplainNobody(t *testing.T) {
	t.Parallel()
	for _, pid := range []int{0, -1, 1 << 30} {
		_, err := safeexec.Explain(t.Context(), pid)
		assert.ErrorIs(t, err, os.ErrProcessDone, pid)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := safeexec.Explain(ctx, os.Getppid())
	assert.ErrorIs(t, err, context.Canceled)
}

// What may not be read is said to be so, and is no cause.
func TestExplainUnreadable(t *testing.T) {
	t.Parallel()
	if !testproc.Unprivileged() {
		t.Skip("root reads everything")
	}
	report, err := safeexec.Explain(t.Context(), 1)
	require.NoError(t, err)
	assert.Contains(t, report.Verdict, "may not be looked at")
	assert.False(t, report.Found)
	assert.Positive(t, report.Unreadable)
	assert.True(t, report.Processes[0].Unreadable)
}
