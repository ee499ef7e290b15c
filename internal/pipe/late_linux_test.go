package pipe

import (
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// cameBack gives e a call that was late and has returned n and err.
func cameBack(e *End, c call, n int, err error) {
	h := takeHand()
	h.call, h.n, h.err = c, n, err
	h.state.Store(back)
	e.late = h
}

// What a late Read has read is that of the next Read, once, also where others ask for something else meanwhile and where
// the pipe has come to its end.
func TestLateReadIsNotLost(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	require.NoError(t, child.Close())
	cameBack(&e, callRead, 3, nil)
	_, err = e.Unread()
	require.ErrorIs(t, err, drain.ErrHeld)
	p := make([]byte, 8)
	n, err := e.Read(p)
	require.NoError(t, err)
	assert.Equal(t, 3, n)
	n, err = e.Read(p)
	require.NoError(t, err)
	assert.Zero(t, n, "the end")

	cameBack(&e, callUnread, 7, nil)
	_, err = e.do(callRead, p, 0) // as Read did before the end
	require.NoError(t, err)
	assert.Nil(t, e.late, "what nobody asks for any more is passed over")
	e.Close()
}

// The same of a late Write: its error is that of the next one.
func TestLateWriteIsNotLost(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	var e End
	child, err := e.Input()
	require.NoError(t, err)
	defer child.Close()
	cameBack(&e, callWrite, 0, syscall.EPIPE)
	_, err = e.Unread()
	require.ErrorIs(t, err, drain.ErrHeld)
	_, err = e.Write([]byte("x"))
	require.ErrorIs(t, err, syscall.EPIPE)
	n, err := e.Write([]byte("x"))
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	e.Close()
}

// A late call that failed has enlarged nothing.
func TestLateGrowThatFailed(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	before := largePipes.Load()
	var e End
	child, err := e.Output()
	require.NoError(t, err)
	defer child.Close()
	cameBack(&e, callGrow, 1<<12, syscall.EPERM)
	_, err = e.Unread()
	require.NoError(t, err)
	assert.Equal(t, before, largePipes.Load())
	e.Close()
	assert.Equal(t, before, largePipes.Load())
}

// A terminal gets the size that was asked for last.
func TestLateResizeToAnotherSize(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	var e End
	e.Master(fd, 0)
	cameBack(&e, callResize, 24<<16|80, nil)
	require.NoError(t, e.Resize(50, 100))
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	require.NoError(t, err)
	assert.Equal(t, [2]uint16{50, 100}, [2]uint16{size.Row, size.Col})
	e.Close()
}

// What is closed while a call on it is late is closed after it, and then the owner is told.
func TestCloseWhileACallIsLate(t *testing.T) {
	testproc.NoLeaks(t)
	for _, owned := range []bool{false, true} { // by a file, as after Waiter
		idle := idleHands()
		r, w, err := open() // both block, so that a call is late
		require.NoError(t, err)
		told := make(chan struct{}, 1)
		e := End{fd: r, open: true, notify: func() { told <- struct{}{} }}
		if owned {
			e.file = os.NewFile(uintptr(r), "|")
		}
		inode := e.Inode()
		_, err = e.Read(make([]byte, 8))
		require.ErrorIs(t, err, drain.ErrHeld)
		_, err = e.Read(make([]byte, 8))
		require.ErrorIs(t, err, drain.ErrHeld, "it is still under way")
		assert.True(t, e.Held())
		e.Close()
		assert.True(t, e.Held())
		assert.Equal(t, idle-1, idleHands())
		var st unix.Stat_t
		require.NoError(t, unix.Fstat(r, &st))
		assert.Equal(t, inode, st.Ino, "the number is still that of the pipe")

		_, err = unix.Write(w, []byte("x"))
		require.NoError(t, err)
		select {
		case <-told:
		case <-testproc.Deadline(t).Done():
			t.Fatal("nobody is told")
		}
		assert.False(t, e.Held())
		assert.Equal(t, idle, idleHands())
		_, err = unix.Write(w, []byte("x"))
		assert.ErrorIs(t, err, syscall.EPIPE, "owned: %v", owned)
		require.NoError(t, unix.Close(w))
	}
}

// Where it has come back meanwhile it is closed at once.
func TestCloseAfterALateCall(t *testing.T) {
	testproc.NoLeaks(t)
	patient(t)
	idle := idleHands()
	r, w, err := open()
	require.NoError(t, err)
	e := End{fd: r, open: true}
	cameBack(&e, callRead, 1, nil)
	e.Close()
	assert.False(t, e.Held())
	assert.Equal(t, idle, idleHands())
	_, err = unix.Write(w, []byte("x"))
	assert.ErrorIs(t, err, syscall.EPIPE)
	require.NoError(t, unix.Close(w))
}

// A hand that was late tells so once, left or not, and closes nothing that it was not told to: the number may be
// another's by then.
func TestHandThatWasLate(t *testing.T) {
	testproc.NoLeaks(t)
	r, w, err := open()
	require.NoError(t, err)
	for _, state := range []int32{left, late} {
		h, over, told := takeHand(), new(atomic.Bool), 0
		h.call, h.fd, h.over, h.notify = callUnread, r, over, func() { told++ }
		h.state.Store(state)
		h.work()
		assert.Equal(t, 1, told)
		assert.Equal(t, state == left, over.Load())
		if state == late {
			assert.Equal(t, back, h.state.Load())
			h.giveBack()
		}
	}
	require.NoError(t, unix.Close(r))
	require.NoError(t, unix.Close(w))
}
