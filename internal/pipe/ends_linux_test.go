package pipe

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// outputs makes two pipes of outputs.
func outputs(t *testing.T) (ends [3]*End, files [3]*os.File) {
	t.Helper()
	for i := 1; i <= 2; i++ {
		ends[i] = new(End)
		var err error
		files[i], err = ends[i].Output()
		require.NoError(t, err)
		t.Cleanup(func() { files[i].Close() })
	}
	return ends, files
}

func TestCloseEnds(t *testing.T) {
	testproc.NoLeaks(t)
	ends, _ := outputs(t)
	fds := [3]int{1: ends[1].FD(), 2: ends[2].FD()}
	CloseEnds(ends, nil)
	for i := 1; i <= 2; i++ {
		assert.False(t, ends[i].Open())
		testproc.Wait(t, func() bool { return !ends[i].Held() }) // a busy machine makes a hand late
		_, err := unix.FcntlInt(uintptr(fds[i]), unix.F_GETFD, 0)
		assert.ErrorIs(t, err, unix.EBADF)
	}
}

// A process that holds the first pipe holds up its close alone, and one that holds the second as well.
func TestCloseEndsWhileOneIsHeld(t *testing.T) {
	testproc.NeedsMissingPages(t)
	for held := 1; held <= 2; held++ {
		testproc.NoLeaks(t)
		ends, files := outputs(t)
		free := 3 - held
		reader := reopened(t, files[held], unix.O_RDONLY)
		_, err := files[held].WriteString("some")
		require.NoError(t, err)
		letGo := testproc.HoldByReading(t, reader)
		within(t, letGo, func() {
			CloseEnds(ends, nil)
			assert.True(t, ends[held].Held())
			testproc.Wait(t, func() bool { return !ends[free].Held() })
		})
		for _, e := range ends[1:] {
			assert.False(t, e.Open())
			testproc.Wait(t, func() bool { return !e.Held() })
		}
		require.NoError(t, unix.Close(reader))
	}
}

// What a hand has not begun with when its owner stops to wait is the owner's: the number may be another file's by then.
func TestHandBeginsNothingBehindItsOwner(t *testing.T) {
	h := new(hand)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	h.ends[1] = ownEnd{open: true, file: r}
	h.ends[2] = ownEnd{open: true, file: w}
	h.begun.Store(noMore)
	h.closeEnds()
	assert.NoError(t, w.Close(), "it was open")
	assert.Equal(t, int32(noMore), h.begun.Load())
}
