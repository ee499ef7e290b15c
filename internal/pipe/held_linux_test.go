package pipe

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// reopened returns another descriptor of the pipe, as any process has it that opens its own end in /proc.
func reopened(t *testing.T, file *os.File, mode int) int {
	t.Helper()
	var again int
	var err error
	control(t, file, func(fd uintptr) {
		again, err = unix.Open("/proc/self/fd/"+strconv.Itoa(int(fd)), mode|unix.O_CLOEXEC, 0)
	})
	require.NoError(t, err)
	return again
}

// within has f called, which must not wait until the pipe is let go of: that comes after it, or when the test has
// failed.
func within(t *testing.T, letGo func(), f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-testproc.Deadline(t).Done():
		t.Error("the call waits for the one that holds the pipe")
	}
	letGo()
	<-done
}

// A process that has opened the other direction of its end holds the pipe also where no process has its end any more.
func TestHeldWithoutAWriter(t *testing.T) {
	testproc.NeedsMissingPages(t)
	testproc.NoLeaks(t)
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	reader := reopened(t, child, unix.O_RDONLY)
	defer unix.Close(reader)
	_, err = child.WriteString("some")
	require.NoError(t, err)
	require.NoError(t, child.Close())
	require.True(t, e.Hangup())
	letGo := testproc.HoldByReading(t, reader)
	within(t, letGo, func() {
		_, err = e.Unread()
		e.Close()
	})
	assert.ErrorIs(t, err, drain.ErrHeld)
	testproc.Wait(t, func() bool { return !e.Held() })
}

// The same for the other direction, once a write has found no reader.
func TestHeldAfterTheLastReader(t *testing.T) {
	testproc.NeedsMissingPages(t)
	testproc.NoLeaks(t)
	var e End
	child, err := e.Input()
	require.NoError(t, err)
	again := reopened(t, child, unix.O_RDWR)
	_, err = unix.Write(again, []byte("some"))
	require.NoError(t, err)
	writer := reopened(t, child, unix.O_WRONLY)
	defer unix.Close(writer)
	require.NoError(t, child.Close())
	require.NoError(t, unix.Close(again))
	for err = drain.ErrHeld; errors.Is(err, drain.ErrHeld); { // for want of time
		_, err = e.Write([]byte("x"))
	}
	require.ErrorIs(t, err, syscall.EPIPE)

	reader, err := unix.Open("/proc/self/fd/"+strconv.Itoa(writer), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(reader)
	letGo := testproc.HoldByReading(t, reader)
	within(t, letGo, e.Close)
	testproc.Wait(t, func() bool { return !e.Held() })
}

// The end of a pipe does not come before its last byte, whatever poll(2) says meanwhile.
func TestEndComesLast(t *testing.T) {
	testproc.NoLeaks(t)
	for range 500 {
		var e End
		child, err := e.Output()
		require.NoError(t, err)
		go func() {
			_, _ = child.Write([]byte("last"))
			child.Close()
		}()
		var got []byte
		for buf := make([]byte, 8); ; {
			n, err := e.Read(buf)
			if errors.Is(err, syscall.EAGAIN) || errors.Is(err, drain.ErrHeld) { // nothing yet, or no time for the hand
				continue
			}
			require.NoError(t, err)
			if n == 0 {
				break
			}
			got = append(got, buf[:n]...)
		}
		require.Equal(t, "last", string(got))
		e.Close()
	}
}
