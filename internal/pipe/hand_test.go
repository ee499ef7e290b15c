//go:build unix

package pipe

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func idleHands() int {
	spares.Lock()
	defer spares.Unlock()
	return len(spares.list)
}

// lateHand returns a hand whose call does not return until release is called.
func lateHand(t *testing.T, notify func()) (h *hand, release func()) {
	t.Helper()
	r, w, err := open()
	require.NoError(t, err)
	var e End
	child, err := e.split(r, w) // our end does not block, the child's does
	require.NoError(t, err)
	h = takeHand()
	conn, err := child.SyscallConn()
	require.NoError(t, err)
	require.NoError(t, conn.Control(func(fd uintptr) { h.fd = int(fd) }))
	h.notify = notify
	h.call, h.p = callWrite, make([]byte, 1<<20) // more than the pipe holds
	require.False(t, h.begin())
	return h, func() {
		e.Close() // the write fails
		child.Close()
	}
}

// A hand that is late and is left comes back to the others by itself, and says when it is over.
func TestHandThatIsLeft(t *testing.T) {
	before := idleHands()
	told := make(chan struct{})
	h, release := lateHand(t, func() { close(told) })
	assert.Equal(t, before-1, idleHands())
	over := h.leave()
	assert.False(t, over.Done())
	release()
	<-told
	assert.True(t, over.Done())
	testproc.Wait(t, func() bool { return idleHands() == before }) // release may have left its close to another hand
}

// One that came back meanwhile is no different.
func TestHandThatIsBack(t *testing.T) {
	before := idleHands()
	told := make(chan struct{})
	h, release := lateHand(t, func() { close(told) })
	release()
	<-told
	assert.True(t, h.leave().Done())
	testproc.Wait(t, func() bool { return idleHands() == before })
}
