package sys

import (
	"os"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestStopSignal(t *testing.T) {
	cmd := testproc.Command("hang")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	testproc.Ready(t, out)
	pid := cmd.Process.Pid
	assert.Zero(t, StopSignal(pid), "it runs")
	require.NoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	// The first thread is stopped before the process as a whole is.
	ctx := testproc.Deadline(t)
	for StopSignal(pid) == 0 && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	for range 2 {
		assert.Equal(t, syscall.SIGSTOP, StopSignal(pid), "asking leaves it as it was")
	}
	assert.Zero(t, StopSignal(os.Getppid()), "not a child")
}

func TestReadMemory(t *testing.T) {
	secret := []byte("some bytes of ours")
	p := make([]byte, len(secret))
	n, err := ReadMemory(os.Getpid(), uint64(uintptr(unsafe.Pointer(&secret[0]))), p)
	require.NoError(t, err)
	assert.Equal(t, len(secret), n)
	assert.Equal(t, secret, p)
	runtime.KeepAlive(secret)
	for _, addr := range []uint64{0, 1, 1<<63 + 1} {
		_, err = ReadMemory(os.Getpid(), addr, p)
		assert.ErrorIs(t, err, syscall.EFAULT)
	}
	_, err = ReadMemory(os.Getpid(), 0, nil)
	assert.Error(t, err)
	if testproc.Unprivileged() {
		_, err = ReadMemory(1, 1<<20, p)
		assert.True(t, NotPermitted(err), err)
	}
}

func TestCPUTime(t *testing.T) {
	before, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	for begun := time.Now(); time.Since(begun) < 20*time.Millisecond; {
	}
	after, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	assert.Greater(t, after, before)
	_, err = CPUTime(1)
	assert.NoError(t, err, "no permission needed")
	_, err = CPUTime(1 << 28)
	assert.Error(t, err)
	now, err := ClockNow(unix.CLOCK_REALTIME)
	require.NoError(t, err)
	assert.InDelta(t, time.Now().UnixNano(), now.Nanoseconds(), float64(time.Minute))
}
