package pipe

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/drain"
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
	}
	return ends, files
}

// finish is Finish where a busy machine must not count as a process that holds a pipe.
func finish(t *testing.T, files [3]*os.File, ends [3]*End) {
	t.Helper()
	told := make(chan struct{}, 1)
	if closing := Finish(files, ends, func() { told <- struct{}{} }); !closing.Done() {
		<-told
		testproc.Wait(t, closing.Done)
	}
}

// With the child's ends our own end, but for that of a pipe in which something waits, or that has another writer.
func TestFinish(t *testing.T) {
	testproc.NoLeaks(t)
	ends, files := outputs(t)
	writer := reopened(t, files[1], unix.O_WRONLY)
	_, err := files[2].WriteString("x")
	require.NoError(t, err)
	finish(t, files, ends)
	for _, f := range files[1:] {
		assert.ErrorIs(t, f.Close(), os.ErrClosed)
	}
	assert.True(t, ends[1].Open(), "it has a writer")
	assert.True(t, ends[2].Open(), "something is in it")
	require.NoError(t, unix.Close(writer))

	for ends[1].Open() { // or the hand had no time to begin with it
		finish(t, [3]*os.File{}, ends)
	}
	n, err := ends[1].Read(make([]byte, 8))
	assert.Zero(t, n)
	assert.NoError(t, err)
	p := make([]byte, 8)
	for n = 0; n == 0; {
		n, err = ends[2].Read(p)
		if err != nil {
			require.ErrorIs(t, err, drain.ErrHeld)
		}
	}
	assert.Equal(t, "x", string(p[:n]))
	ends[2].Close()
	testproc.Wait(t, func() bool { return !ends[2].Held() })
}

// A process that holds one pipe keeps Finish from closing the others, and nothing else: they stay open, and are closed
// one by one.
func TestFinishWhileAPipeIsHeld(t *testing.T) {
	testproc.NeedsMissingPages(t)
	testproc.NoLeaks(t)
	ends, files := outputs(t)
	reader := reopened(t, files[1], unix.O_RDONLY)
	defer unix.Close(reader)
	_, err := files[1].WriteString("some")
	require.NoError(t, err)
	inodes := [3]uint64{1: ends[1].Inode(), 2: ends[2].Inode()}
	letGo := testproc.HoldByReading(t, reader)
	told := make(chan struct{})
	var closing Closing
	within(t, letGo, func() {
		closing = Finish(files, ends, func() { close(told) })
		assert.False(t, closing.Done())
		assert.True(t, ends[1].Open())
		assert.True(t, ends[2].Open())
	})
	<-told
	testproc.Wait(t, closing.Done)
	for i := 1; i <= 2; i++ {
		e := ends[i]
		assert.Equal(t, inodes[i], e.Inode(), "the hand closed it behind the back of its owner")
		e.Close()
		testproc.Wait(t, func() bool { return !e.Held() })
	}
}

// One of our own ends that is held is closed, and Held until it is.
func TestFinishOfAHeldEnd(t *testing.T) {
	testproc.NeedsMissingPages(t)
	testproc.NoLeaks(t)
	ends, files := outputs(t)
	reader := reopened(t, files[1], unix.O_RDONLY)
	defer unix.Close(reader)
	_, err := files[1].WriteString("some")
	require.NoError(t, err)
	finish(t, files, [3]*End{})
	letGo := testproc.HoldByReading(t, reader)
	ends[1].atEnd = true // as if a Read had found it before the other came
	within(t, letGo, func() {
		closing := Finish([3]*os.File{}, ends, nil)
		assert.False(t, closing.Done())
		assert.False(t, ends[1].Open())
		assert.True(t, ends[1].Held())
		assert.True(t, ends[2].Open(), "the hand has not come to it")
	})
	testproc.Wait(t, func() bool { return !ends[1].Held() })
	ends[2].Close()
	testproc.Wait(t, func() bool { return !ends[2].Held() })
}
