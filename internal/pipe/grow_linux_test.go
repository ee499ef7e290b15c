package pipe

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func newOutput(t *testing.T) (*End, *os.File) {
	t.Helper()
	e := new(End)
	child, err := e.Output()
	require.NoError(t, err)
	t.Cleanup(func() {
		e.Close()
		child.Close()
	})
	return e, child
}

func size(t *testing.T, e *End) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(e.FD()), unix.F_GETPIPE_SZ, 0)
	require.NoError(t, err)
	return n
}

func TestGrow(t *testing.T) {
	patient(t)
	testproc.NoLeaks(t)
	e, child := newOutput(t)
	before := size(t, e)
	_, err := child.WriteString("kept")
	require.NoError(t, err)
	require.True(t, e.Grow())
	assert.False(t, e.Grow(), "it is large already")
	assert.Equal(t, LargeSize, size(t, e))
	unread, err := e.Unread()
	assert.NoError(t, err)
	assert.Equal(t, 4, unread)
	assert.Equal(t, int32(1), largePipes.Load())
	moved := e.Move()
	e.Close()
	assert.False(t, e.Grow(), "a closed one")
	assert.Zero(t, largePipes.Load(), "it is kept for long, and is not heavy any more")
	assert.Equal(t, before, size(t, &moved))
	unread, err = moved.Unread()
	assert.NoError(t, err)
	assert.Equal(t, 4, unread)
	moved.Close()
	moved.Close()
	assert.Zero(t, largePipes.Load())
}

// One that holds too much stays large until it is closed.
func TestMoveOfAFullPipe(t *testing.T) {
	patient(t)
	testproc.NoLeaks(t)
	e, child := newOutput(t)
	require.True(t, e.Grow())
	_, err := child.Write(make([]byte, LargeSize))
	require.NoError(t, err)
	moved := e.Move()
	assert.Equal(t, LargeSize, size(t, &moved))
	assert.Equal(t, int32(1), largePipes.Load())
	moved.Close()
	assert.Zero(t, largePipes.Load())
}

// Where pages have 64 KiB, a pipe has 1 MiB from the beginning.
func TestGrowNeverShrinks(t *testing.T) {
	patient(t)
	e, _ := newOutput(t)
	_, err := unix.FcntlInt(uintptr(e.FD()), unix.F_SETPIPE_SZ, 4*LargeSize)
	if err != nil {
		t.Skip(err)
	}
	assert.True(t, e.Grow())
	assert.Equal(t, 4*LargeSize, size(t, e))
}

func TestGrowIsForSome(t *testing.T) {
	patient(t)
	testproc.NoLeaks(t)
	var ends []*End
	for range maxLarge {
		e, _ := newOutput(t)
		require.True(t, e.Grow())
		ends = append(ends, e)
	}
	late, _ := newOutput(t)
	before := size(t, late)
	assert.False(t, late.Grow())
	assert.Equal(t, before, size(t, late))
	ends[3].Close()
	assert.True(t, late.Grow(), "there is a place again")
	for _, e := range append(ends, late) {
		e.Close()
	}
	assert.Zero(t, largePipes.Load())
}

// What is no pipe is refused, and its place is given back.
func TestGrowRefused(t *testing.T) {
	patient(t)
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	assert.False(t, (&End{fd: int(null.Fd()), open: true}).Grow())
	assert.Zero(t, largePipes.Load())
}

// An ordinary user has an allowance for all their pipes. Once it is used up a pipe stays as it was, and
// goes on working.
func TestGrowBeyondTheAllowance(t *testing.T) {
	patient(t)
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody who has nothing else open")
	}
	testproc.NoLeaks(t)
	var ends [100]End // 64 by default
	var children [len(ends)]*os.File
	defer func() {
		for i := range ends {
			ends[i].Close()
			children[i].Close()
		}
	}()
	refused, grew, worked := false, false, false
	as(t, 54321, func() {
		for i := range ends {
			e := &ends[i]
			var err error
			if children[i], err = e.Output(); err != nil {
				return
			}
			if refused {
				_, err = sys.GrowPipe(e.fd, LargeSize) // a hand is on another thread
				grew = err == nil
				n, _ := children[i].WriteString("x")
				m, _ := e.Read(make([]byte, 10))
				worked = n == 1 && m == 1
				return
			}
			_, err = unix.FcntlInt(uintptr(e.FD()), unix.F_SETPIPE_SZ, 1<<20)
			refused = errors.Is(err, unix.EPERM)
		}
	})
	if !refused {
		t.Skip("this system has another allowance")
	}
	assert.False(t, grew)
	assert.True(t, worked)
	assert.Zero(t, largePipes.Load())
}

// as runs f on a thread that is somebody else, and that ends with it.
func as(t *testing.T, uid uintptr, f func()) {
	t.Helper()
	var errno unix.Errno
	testproc.OwnThread(func() {
		if _, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno == 0 {
			f()
		}
	})
	require.Zero(t, errno)
}

// A call that was late counts the large pipes once, whichever call it was and whether it is repeated.
func TestLateGrowCountsOnce(t *testing.T) {
	patient(t)
	before := largePipes.Load()
	comesBack := func(e *End, c call) { cameBack(e, c, 1<<12, nil) }
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	defer child.Close()
	comesBack(&e, callGrow)
	require.True(t, e.Grow(), "again")
	assert.Equal(t, before+1, largePipes.Load())
	comesBack(&e, callShrink)
	_, err = e.Unread()
	require.NoError(t, err)
	assert.Equal(t, before, largePipes.Load())
	comesBack(&e, callGrow)
	_, err = e.Unread()
	require.NoError(t, err)
	assert.Equal(t, before+1, largePipes.Load())
	e.Close()
	assert.Equal(t, before, largePipes.Load())
}
