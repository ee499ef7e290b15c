package drain

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A scriptedSource lends a scriptedPipe. The race detector sees it when two read at once.
type scriptedSource struct {
	pipe    io.Reader
	more    chan struct{} // something may have come; capacity 1
	stopped chan struct{} // closed by Interrupt
	parked  chan struct{} // Await found nothing; capacity 1
	deaf    bool          // Interrupt comes late
	left    chan struct{} // Await returned, capacity 1
}

func (s *scriptedSource) Await(try func(pipe io.Reader) bool) {
	defer func() {
		select {
		case s.left <- struct{}{}:
		default:
		}
	}()
	for {
		select {
		case <-s.stopped:
			return
		default:
		}
		if try(s.pipe) {
			return
		}
		select {
		case s.parked <- struct{}{}:
		default:
		}
		select {
		case <-s.more:
		case <-s.stopped:
		}
	}
}

func (s *scriptedSource) Interrupt() {
	if s.deaf {
		return
	}
	select {
	case <-s.stopped:
	default:
		close(s.stopped)
	}
}

func newSource(p io.Reader) *scriptedSource {
	return &scriptedSource{
		pipe: p, more: make(chan struct{}, 1), stopped: make(chan struct{}), parked: make(chan struct{}, 1),
		left: make(chan struct{}, 1),
	}
}

// lent returns an output to w that was pulled until its pipe was lent.
func lent(t testing.TB, p *scriptedPipe, w io.Writer) (*Output, *bell, *scriptedSource) {
	o, b := stream(t, p, w)
	s := newSource(p)
	o.Lend(func() Source { return s })
	for range lendAfter {
		for o.Pull(0) == Blocked {
			b.wait(t)
		}
	}
	assert.False(t, o.Drawing())
	for o.Pull(0) == Blocked {
		b.wait(t)
	}
	assert.False(t, o.open != nil, "it is asked for once")
	return o, b, s
}

func TestDrawnToTheEnd(t *testing.T) {
	testproc.NoLeaks(t)
	for range 50 {
		p := reads("a", "b", "c", "d", "e")
		p.steps = append(p.steps, nothingYet, readStep{data: "f"}, nothingYet)
		w := testproc.NewSlowWriter(runtime.Gosched)
		o, b, s := lent(t, p, w)
		for range 2 {
			s.more <- struct{}{}
		}
		for o.Pull(0) != Ended {
			b.wait(t)
		}
		assert.True(t, o.Finish(), "who met the end has written all before")
		assert.Equal(t, "abcdef", string(w.Bytes()))
		assert.Zero(t, o.Dropped())
		assert.False(t, o.LastDrawn().IsZero())
		assert.False(t, o.Drawing())
	}
}

// Taken back while the goroutine waits: from then on the run alone reads.
func TestTakeBackWhileParked(t *testing.T) {
	testproc.NoLeaks(t)
	p := reads("a", "b", "c")
	p.steps = append(p.steps, nothingYet, readStep{data: "d"}, readStep{data: "e"})
	w := testproc.NewSlowWriter(func() {})
	o, b, s := lent(t, p, w)
	<-s.parked
	assert.Equal(t, Drawn, o.Pull(0))
	o.TakeBack()
	o.TakeBack()
	assert.False(t, o.Drawing())
	pullAll(t, o, b)
	assert.Equal(t, "abcde", string(w.Bytes()))
	assert.Zero(t, o.Dropped())
}

// Taken back before it was lent: it is the run's for good.
func TestTakeBackBeforeLending(t *testing.T) {
	testproc.NoLeaks(t)
	w := testproc.NewSlowWriter(func() {})
	o, b := stream(t, reads("a", "b", "c", "d"), w)
	o.Lend(func() Source { t.Error("asked for"); return nil })
	assert.Equal(t, Moved, o.Pull(0))
	o.TakeBack()
	pullAll(t, o, b)
	assert.Equal(t, "abcd", string(w.Bytes()))
}

// Taken back at the very moment when something comes: the goroutine is on its way to read it.
func TestTakeBackBeforeARead(t *testing.T) {
	testproc.NoLeaks(t)
	p := reads("a", "b")
	p.steps = append(p.steps, nothingYet, readStep{data: "c"}, readStep{data: "d"})
	w := testproc.NewSlowWriter(func() {})
	o, b, s := lent(t, p, w)
	<-s.parked
	s.deaf = true
	o.TakeBack()
	asked := len(p.asked)
	s.more <- struct{}{}
	<-s.left
	assert.Len(t, p.asked, asked, "it is not the goroutine's any more")
	pullAll(t, o, b)
	assert.Equal(t, "abcd", string(w.Bytes()))
}

// Taken back while the Writer is called: what the run reads comes behind.
func TestTakeBackWhileWriting(t *testing.T) {
	testproc.NoLeaks(t)
	w := &countingWriter{entered: make(chan struct{}, 10), leave: make(chan struct{})}
	var got bytes.Buffer
	o, b, _ := lentAndStuck(t, w, &got)
	o.TakeBack()
	assert.Equal(t, Moved, o.Pull(1))
	assert.Equal(t, Blocked, o.Pull(1))
	close(w.leave)
	pullAll(t, o, b)
	assert.Equal(t, "abcdef", got.String())
	assert.Zero(t, o.Dropped())
}

// lentAndStuck returns an output whose goroutine is in the Write of the third chunk, which it drew.
func lentAndStuck(t *testing.T, w *countingWriter, got *bytes.Buffer) (*Output, *bell, *scriptedSource) {
	t.Helper()
	released := make(chan struct{})
	go func() {
		defer close(released)
		for range lendAfter {
			<-w.entered
			w.leave <- struct{}{}
		}
	}()
	o, b, s := lent(t, reads("a", "b", "c", "d", "e", "f"), writerFunc(func(p []byte) (int, error) {
		n, err := w.Write(p)
		got.Write(p)
		return n, err
	}))
	<-released
	<-w.entered
	assert.Equal(t, Drawn, o.Pull(0))
	assert.False(t, o.Busy().IsZero())
	return o, b, s
}

func TestAbandonWhileDrawing(t *testing.T) {
	w := &countingWriter{entered: make(chan struct{}, 10), leave: make(chan struct{})}
	var got bytes.Buffer
	var o *Output
	t.Run("stuck", func(t *testing.T) {
		testproc.NoLeaks(t)
		o, _, _ = lentAndStuck(t, w, &got)
		o.Abandon()
		for o.Pull(0) == Moved {
		}
		assert.True(t, o.Ended())
		assert.True(t, o.Finish())
		assert.Equal(t, int64(6), o.Total())
		assert.Equal(t, int64(4), o.Dropped())
		close(w.leave)
	})
	assert.Equal(t, int32(3), w.calls.Load(), "no Write after the one it was in")
	assert.Equal(t, int64(4), o.Dropped(), "the counts stay what the result says")
}

func TestLimitWhileDrawing(t *testing.T) {
	testproc.NoLeaks(t)
	p := reads("ab", "cd", "ef", "gh", "ij")
	p.steps = append(p.steps, nothingYet)
	w := testproc.NewSlowWriter(func() {})
	o, b := stream(t, p, w)
	o.StopAt(5)
	s := newSource(p)
	o.Lend(func() Source { return s })
	for !o.Exceeded() {
		if o.Pull(0) != Moved {
			b.wait(t)
		}
	}
	s.more <- struct{}{}
	for o.Pull(0) != Ended {
		b.wait(t)
	}
	assert.True(t, o.Finish())
	assert.Equal(t, "abcde", string(w.Bytes()))
	assert.Equal(t, int64(10), o.Total())
	assert.Equal(t, int64(5), o.Dropped())
}

// A Writer that fails is not called again, and the command lives on.
func TestWriterFailsWhileDrawing(t *testing.T) {
	testproc.NoLeaks(t)
	calls := 0
	o, b, _ := lent(t, reads("a", "b", "c", "d", "e"), writerFunc(func(p []byte) (int, error) {
		if calls++; calls == 3 {
			return 0, assert.AnError
		}
		return len(p), nil
	}))
	for o.Pull(0) != Ended {
		b.wait(t)
	}
	assert.True(t, o.Finish())
	assert.ErrorIs(t, o.Err(), assert.AnError)
	assert.Equal(t, int64(5), o.Total())
	assert.Equal(t, int64(3), o.Dropped())
	assert.Equal(t, 3, calls)
}

// A Writer that ends its goroutine leaves the pipe to the run.
func TestWriterEndsItsGoroutineWhileDrawing(t *testing.T) {
	testproc.NoLeaks(t)
	calls := 0
	o, b, _ := lent(t, reads("a", "b", "c", "d", "e"), writerFunc(func(p []byte) (int, error) {
		if calls++; calls == 3 {
			runtime.Goexit()
		}
		return len(p), nil
	}))
	for {
		switch o.Pull(0) {
		case Drawn, Blocked:
			b.wait(t)
			continue
		case Moved:
			continue
		case Starved, Ended:
		}
		break
	}
	assert.True(t, o.Finish())
	assert.ErrorIs(t, o.Err(), errWriterGone)
	assert.Equal(t, int64(5), o.Total())
	assert.Equal(t, int64(3), o.Dropped())
}

// A Source that cannot wait any more, and was not interrupted, leaves the pipe to the run.
func TestSourceGivesUpWhileDrawing(t *testing.T) {
	testproc.NoLeaks(t)
	p := reads("a", "b", "c", "d")
	w := testproc.NewSlowWriter(func() {})
	o, b := stream(t, p, w)
	o.Lend(func() Source { return brokenSource{} })
	for range lendAfter {
		for o.Pull(0) == Blocked {
			b.wait(t)
		}
	}
	for o.Pull(0) == Blocked {
		b.wait(t)
	}
	for o.Drawing() {
		b.wait(t)
	}
	pullAll(t, o, b)
	assert.Equal(t, "abcd", string(w.Bytes()))
	assert.Zero(t, o.Dropped())
}

type brokenSource struct{}

func (brokenSource) Await(func(io.Reader) bool) {}
func (brokenSource) Interrupt()                 {}

// The run reads a pipe that only it can wait for to its end.
func TestNotLent(t *testing.T) {
	testproc.NoLeaks(t)
	w := testproc.NewSlowWriter(func() {})
	o, b := stream(t, reads("a", "b", "c", "d"), w)
	asked := 0
	o.Lend(func() Source { asked++; return nil })
	pullAll(t, o, b)
	assert.Equal(t, 1, asked)
	assert.Equal(t, "abcd", string(w.Bytes()))
}
