package pipe

import (
	"io"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// fill writes until the pipe is full, and returns how much it took.
func fill(t *testing.T, w io.Writer) (n int) {
	t.Helper()
	for {
		m, err := w.Write(make([]byte, 4096))
		n += m
		if err != nil {
			require.ErrorIs(t, err, syscall.EAGAIN)
			return n
		}
	}
}

func TestAwaitRoom(t *testing.T) {
	patient(t)
	testproc.NoLeaks(t)
	var e End
	child, err := e.Input()
	require.NoError(t, err)
	defer child.Close()
	w, err := e.Waiter()
	require.NoError(t, err)
	filled := fill(t, &e)
	parked, done := make(chan struct{}), make(chan int)
	park := sync.OnceFunc(func() { close(parked) }) // there may be another try, for room of before the pipe was full
	go func() {
		n := 0
		w.AwaitRoom(func(pipe io.Writer) bool {
			var err error
			if n, err = pipe.Write(make([]byte, 4096)); err == nil {
				return true
			}
			assert.ErrorIs(t, err, syscall.EAGAIN)
			park()
			return false
		})
		done <- n
	}()
	<-parked
	_, err = io.ReadFull(child, make([]byte, filled))
	require.NoError(t, err)
	assert.Equal(t, 4096, <-done)

	e.Close()
}

func TestAwaitRoomEnds(t *testing.T) {
	patient(t)
	testproc.NoLeaks(t)
	for _, how := range []string{"interrupted", "closed"} {
		var e End
		child, err := e.Input()
		require.NoError(t, err)
		w, err := e.Waiter()
		require.NoError(t, err)
		fill(t, &e)
		parked, done := make(chan struct{}), make(chan struct{})
		park := sync.OnceFunc(func() { close(parked) })
		go func() {
			defer close(done)
			w.AwaitRoom(func(io.Writer) bool {
				park()
				return false
			})
		}()
		<-parked
		if how == "interrupted" {
			w.Interrupt()
		} else {
			e.Close()
		}
		<-done
		w.AwaitRoom(func(io.Writer) bool {
			t.Error("called after the end", how)
			return true
		})
		e.Close()
		child.Close()
	}
}
