package sys

import (
	"math"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func openPipe(t *testing.T) (r, w int) {
	t.Helper()
	r, w, err := Pipe()
	require.NoError(t, err)
	return r, w
}

func TestPipeEnds(t *testing.T) {
	r, w := openPipe(t)
	for _, fd := range []int{r, w} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		require.NoError(t, err)
		assert.Zero(t, flags&unix.O_NONBLOCK, "the child's end blocks")
	}
	require.NoError(t, SetNonblock(r))
	flags, err := unix.FcntlInt(uintptr(w), unix.F_GETFL, 0)
	require.NoError(t, err)
	assert.Zero(t, flags&unix.O_NONBLOCK, "the other end is another description")
	_, err = Read(r, make([]byte, 1))
	assert.ErrorIs(t, err, syscall.EAGAIN)

	n, err := Unread(r)
	assert.NoError(t, err)
	assert.Zero(t, n)
	n, err = Write(w, []byte("abc"))
	assert.NoError(t, err)
	assert.Equal(t, 3, n)
	n, err = Unread(r)
	assert.NoError(t, err)
	assert.Equal(t, 3, n)

	a, err := Inode(r)
	require.NoError(t, err)
	b, err := Inode(w)
	require.NoError(t, err)
	assert.Equal(t, a, b, "one name for both ends")
	assert.NotZero(t, a)

	require.NoError(t, SetNonblock(w))
	for err = nil; err == nil; {
		n, err = Write(w, make([]byte, 1<<16))
	}
	assert.ErrorIs(t, err, syscall.EAGAIN)
	assert.Zero(t, n, "a count is never negative")
	Close(r)
	_, err = Write(w, []byte("x"))
	assert.ErrorIs(t, err, syscall.EPIPE)
	Close(w)
}

func TestGrowPipe(t *testing.T) {
	r, w := openPipe(t)
	defer Close(r)
	defer Close(w)
	require.NoError(t, SetNonblock(w))
	GrowPipe(r, math.MaxInt32) // refused, and nothing comes of it
	GrowPipe(r, 256<<10)
	size, err := unix.FcntlInt(uintptr(r), unix.F_GETPIPE_SZ, 0)
	require.NoError(t, err)
	assert.Contains(t, []int{64 << 10, 256 << 10, 4 << 10, 8 << 10}, size, "a user's allowance may be used up")
	GrowPipe(-1, 4096)
}

func TestReadyOfPipe(t *testing.T) {
	r, w := openPipe(t)
	ready := func(fd int) Readiness {
		found, err := Ready(fd)
		require.NoError(t, err)
		return found
	}
	assert.Equal(t, Readiness{}, ready(r))
	assert.Equal(t, Readiness{Writable: true}, ready(w))
	Write(w, []byte("x"))
	assert.Equal(t, Readiness{Readable: true}, ready(r))

	dup, err := Dup(w)
	require.NoError(t, err)
	Close(w)
	assert.Equal(t, Readiness{Readable: true}, ready(r), "a writer is left")
	Close(dup)
	assert.Equal(t, Readiness{Readable: true, Hangup: true}, ready(r))
	Read(r, make([]byte, 1))
	assert.Equal(t, Readiness{Hangup: true}, ready(r))
	Close(r)

	r, w = openPipe(t)
	Close(r)
	assert.True(t, ready(w).Hangup)
	Close(w)
	assert.Equal(t, Readiness{Hangup: true}, ready(1<<20), "no such descriptor: nobody is at the other end")
}

func TestEpoll(t *testing.T) {
	skipDisabled(t, "epoll")
	ep, err := EpollCreate()
	require.NoError(t, err)
	defer Close(ep)
	r, w := openPipe(t)
	require.NoError(t, EpollAdd(ep, r, EpollIn, -5))
	assert.ErrorIs(t, EpollAdd(ep, r, EpollIn, 6), syscall.EEXIST)
	events := make([]EpollEvent, 2)
	n, err := EpollPoll(ep, events)
	assert.NoError(t, err)
	assert.Zero(t, n)
	Write(w, []byte("x"))
	for range 2 {
		n, err = EpollPoll(ep, events)
		require.NoError(t, err)
		require.Equal(t, 1, n)
		assert.Equal(t, int32(-5), events[0].Fd)
		assert.Equal(t, uint32(EpollIn), events[0].Events)
	}
	require.NoError(t, EpollRemove(ep, r))
	assert.ErrorIs(t, EpollRemove(ep, r), syscall.ENOENT)
	Close(r)
	Close(w)
	n, err = EpollPoll(-1, events)
	assert.ErrorIs(t, err, syscall.EBADF)
	assert.Zero(t, n)
}
