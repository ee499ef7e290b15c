package drain

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A keptPipe gives all that is asked for, or what its steps say, and knows whether it is read into what is kept.
type keptPipe struct {
	keep  *HeadTail
	steps []error // nil for bytes
	asked []int
	into  bool
}

func (p *keptPipe) Read(b []byte) (int, error) {
	p.asked = append(p.asked, len(b))
	space := p.keep.buf[len(p.keep.buf):cap(p.keep.buf)]
	p.into = p.into || len(space) > 0 && &space[0] == &b[0]
	if len(p.steps) > 0 {
		step := p.steps[0]
		p.steps = p.steps[1:]
		if step != nil {
			return 0, step
		}
	}
	return len(b), nil
}

// taking takes everything, by the pump's goroutine.
var taking = writerFunc(func(p []byte) (int, error) { return len(p), nil })

// Bytes are copied where they may have to be cut, or are written as well, or where only a short tail of them stays.
func TestReadsIntoWhatIsKept(t *testing.T) {
	for _, test := range []struct {
		limit  int
		stopAt int64
		want   bool
	}{
		{2 * largeSize, -1, true},
		{2*largeSize - 2, -1, false},
		{2 * largeSize, 0, false},
		{2 * largeSize, 8 * largeSize, false},
	} {
		keep := new(HeadTail)
		p := &keptPipe{keep: keep}
		keep.Limit(test.limit)
		o := new(Output)
		o.Capture(p, keep)
		o.StopAt(test.stopAt)
		for range 4 {
			require.Equal(t, Moved, o.Pull(chunkSize))
		}
		assert.Equal(t, test.want, p.into, "%+v", test)
	}

	p := &keptPipe{}
	o, keep, b := teed(t, p, 2*largeSize, io.Discard)
	p.keep = keep
	for range 4 {
		for o.Pull(chunkSize) == Blocked {
			b.wait(t)
		}
	}
	assert.False(t, p.into)
	for !o.Finish() {
		b.wait(t)
	}
}

// endOfRing returns an output whose next bytes go to the end of the ring, where there is room for minSpace, and then
// to its beginning.
func endOfRing(steps ...error) (*Output, *keptPipe) {
	keep := new(HeadTail)
	keep.Limit(2 * largeSize)
	_, _ = keep.Write(make([]byte, 2*largeSize))
	_, _ = keep.Write(make([]byte, largeSize-minSpace))
	p := &keptPipe{keep: keep, steps: steps}
	o := new(Output)
	o.Capture(p, keep)
	return o, p
}

func TestTurnGoesOnAtTheBeginningOfTheRing(t *testing.T) {
	o, p := endOfRing()
	assert.Equal(t, Moved, o.Pull(minSpace+1000))
	assert.Equal(t, []int{minSpace, 1000}, p.asked, "no more than the limit")
	assert.Equal(t, int64(minSpace+1000), o.Total())

	failed := errors.New("failed")
	for _, test := range []struct {
		step        error
		first, then State // as the first step of a turn, and as the second
		next        State // in the turn after that
	}{
		{syscall.EAGAIN, Starved, Moved, Moved},
		{ErrHeld, Held, Moved, Moved},
		{failed, Ended, Ended, Ended},
	} {
		o, _ := endOfRing(test.step)
		assert.Equal(t, test.first, o.Pull(0), "%v", test.step)
		assert.Zero(t, o.Total())
		o, _ = endOfRing(nil, test.step)
		assert.Equal(t, test.then, o.Pull(0), "%v", test.step)
		assert.Equal(t, int64(minSpace), o.Total())
		assert.Equal(t, test.next, o.Pull(0))
		assert.Equal(t, errors.Is(test.step, failed), errors.Is(o.Err(), failed))
	}
	ended := &floodPipe{data: make([]byte, minSpace), room: minSpace}
	o, _ = endOfRing()
	o.pipe = ended
	assert.Equal(t, Ended, o.Pull(0), "the end is not left for another turn")
}

// The memory is not copied while there is room in it.
func TestHeadTailGrowsWhenItMust(t *testing.T) {
	b := new(HeadTail)
	b.Limit(100)
	for _, step := range []struct{ n, room int }{{10, 10}, {10, 20}, {5, 40}, {15, 40}, {1, 80}, {40, 100}} {
		_, _ = b.Write(make([]byte, step.n))
		assert.Equal(t, step.room, cap(b.buf))
	}
}

// A pipe that takes all of what is written is not full.
func TestInputThatIsTakenIsNotEnlarged(t *testing.T) {
	sink := &roomySink{}
	in, b := input(t, sink, small{strings.NewReader(strings.Repeat("x", 3*growAfter)), 1})
	pushAll(t, in, b)
	leave(t, in, b)
	assert.Equal(t, 3*growAfter, sink.writes)
	assert.Zero(t, sink.asked)
}

type roomySink struct{ writes, asked int }

func (s *roomySink) Grow() bool                  { s.asked++; return true }
func (s *roomySink) Write(p []byte) (int, error) { s.writes++; return len(p), nil }

// The pipe of an input is lent once it is known to go on, and not before.
func TestInputIsLentAfterSomeChunks(t *testing.T) {
	sink := &countedSink{lentSink: newLentSink()}
	sink.refuses = true
	in, b := input(t, sink, small{strings.NewReader(strings.Repeat("x", 3*lendRoomAfter)), 1})
	in.Lend(sink)
	pushAll(t, in, b)
	leave(t, in, b)
	assert.Equal(t, []int{lendRoomAfter}, sink.lentAt)
}

// A countedSink records after how many bytes it was asked for a Sink.
type countedSink struct {
	*lentSink
	lentAt []int
}

func (s *countedSink) LendRoom() Sink {
	s.lentAt = append(s.lentAt, s.got.Len())
	return s.lentSink.LendRoom()
}

// What a turn may move is bounded, and a goroutine that draws is not: it gets the pipe in an unbounded turn.
func TestBoundedTurnDoesNotLend(t *testing.T) {
	testproc.NoLeaks(t)
	o, b := stream(t, reads("a", "b", "c", "d", "e", "f"), taking)
	o.Lend(func() Source { panic("lent") })
	for state := Moved; state != Ended; {
		if state = o.Pull(10); state == Blocked {
			b.wait(t)
		}
	}
	for !o.Finish() {
		b.wait(t)
	}
}

func TestWhoReadsThePipe(t *testing.T) {
	testproc.NoLeaks(t)
	kept, _ := capture(reads("a"), 10)
	assert.False(t, kept.Drawing() || kept.Reading())
	assert.Zero(t, kept.LastDrawn())

	o, b := stream(t, reads("a", "b"), taking)
	inRead, goOn := make(chan struct{}), make(chan struct{})
	s := newSource(readerFunc(func([]byte) (int, error) {
		inRead <- struct{}{}
		<-goOn
		return 0, syscall.EAGAIN
	}))
	o.Lend(func() Source { return s })
	for state := Moved; state != Drawn; {
		if state = o.Pull(0); state == Blocked {
			b.wait(t)
		}
	}
	assert.True(t, o.Drawing())
	<-inRead
	assert.True(t, o.Reading())
	goOn <- struct{}{}
	<-s.parked
	assert.False(t, o.Reading())
	assert.True(t, o.Drawing())
	assert.Zero(t, o.LastDrawn(), "nothing came")
	for !o.Finish() {
		b.wait(t)
	}
	assert.False(t, o.Drawing())
}

// The run hears once that the limit is exceeded.
func TestLimitIsToldOnce(t *testing.T) {
	testproc.NoLeaks(t)
	p := reads("a", "b", "c", "d", "e", "f")
	p.steps = append(p.steps, nothingYet)
	var told atomic.Int32
	o := new(Output)
	o.Stream(p, taking, func() { told.Add(1) })
	o.StopAt(lendAfter + 1)
	s := newSource(p)
	o.Lend(func() Source { return s })
	for n := range int64(lendAfter) {
		require.Equal(t, Moved, o.Pull(0))
		testproc.Wait(t, func() bool { return o.pump.Delivered() == n+1 })
	}
	assert.Zero(t, told.Load())
	assert.Equal(t, Drawn, o.Pull(0))
	<-s.parked
	assert.Equal(t, int32(1), told.Load())
	assert.Equal(t, int64(3), o.Dropped())
	testproc.Wait(t, o.Finish)
}

func TestWritersErrorIsNotReplaced(t *testing.T) {
	failed := errors.New("full disk")
	o := new(Output)
	p := reads("a")
	p.steps = append(p.steps, readStep{err: syscall.EIO})
	o.pipe, o.stopAt, o.now = p, -1, writerFunc(func([]byte) (int, error) { return 0, failed })
	for o.Pull(0) != Ended {
	}
	assert.Equal(t, failed, o.Err())
}

// The run hears of an error at once, and of what went well when it waits for it.
func TestWritersErrorIsTold(t *testing.T) {
	testproc.NoLeaks(t)
	failed := errors.New("full disk")
	fails := false
	p := reads("a", "b")
	o, b := stream(t, p, writerFunc(func(p []byte) (int, error) {
		if fails {
			return 0, failed
		}
		return len(p), nil
	}))
	require.Equal(t, Moved, o.Pull(0))
	testproc.Wait(t, func() bool { return o.pump.Delivered() == 1 && o.Busy().IsZero() })
	b.silent(t)
	fails = true
	require.Equal(t, Moved, o.Pull(0))
	b.wait(t)
	assert.Equal(t, failed, o.Err())
	testproc.Wait(t, o.Finish)
}

// A pipe whose Writer has failed is not lent: nobody would read it.
func TestNotLentToAFailedWriter(t *testing.T) {
	testproc.NoLeaks(t)
	failed := errors.New("full disk")
	o, b := stream(t, reads("a", "b", "c", "d"), writerFunc(func(p []byte) (int, error) {
		if p[0] == 'b' {
			return 0, failed
		}
		return len(p), nil
	}))
	for n := range int64(lendAfter) {
		require.Equal(t, Moved, o.Pull(0))
		testproc.Wait(t, func() bool { return o.pump.Delivered() == n+1 || o.Err() != nil })
	}
	b.wait(t)
	s := newSource(nil)
	o.Lend(func() Source { return s })
	assert.Equal(t, Moved, o.Pull(0))
	assert.False(t, o.Drawing())
	for o.Pull(0) != Ended {
	}
	assert.Equal(t, int64(3), o.Dropped())
	testproc.Wait(t, o.Finish)
}

// While a read that a process holds up goes on, nothing is changed beneath it.
func TestNoTeeWhileHeld(t *testing.T) {
	p := new(scriptedPipe)
	p.steps = []readStep{{err: ErrHeld}}
	o, _ := capture(p, 10)
	require.Equal(t, Held, o.Pull(0))
	assert.False(t, o.Tee(taking, func() {}))
	require.Equal(t, Ended, o.Pull(0))

	o, _ = endOfRing(ErrHeld)
	require.Equal(t, Held, o.Pull(0))
	assert.False(t, o.Tee(taking, func() {}))
	require.Equal(t, Moved, o.Pull(0))
	assert.True(t, o.Tee(taking, func() {}))
}

func TestLookAtACapture(t *testing.T) {
	o, _ := capture(reads("abc"), 10)
	require.Equal(t, Moved, o.Pull(0))
	o.Seal() // nothing: no read is left behind
	o.Look(func(keep *HeadTail) { assert.Equal(t, "abc", string(keep.Bytes())) })
}

// All that can wait behind a Write has room, so that the run never does: the order to draw a pipe that was taken back
// since, one more chunk, and what comes at the end.
func TestRunNeverWaitsForTheWriter(t *testing.T) {
	testproc.NoLeaks(t)
	var got []byte
	entered, leave := make(chan struct{}), make(chan struct{})
	p := reads("a", "b", "c")
	o, b := stream(t, p, writerFunc(func(p []byte) (int, error) {
		if string(p) == "b" {
			close(entered)
			<-leave
		}
		got = append(got, p...)
		return len(p), nil
	}))
	o.AtEnd(func() error { got = append(got, '.'); return nil })
	o.Lend(func() Source { return newSource(p) })
	require.Equal(t, Moved, o.Pull(0))
	testproc.Wait(t, func() bool { return o.pump.Delivered() == 1 })
	require.Equal(t, Moved, o.Pull(0))
	<-entered
	require.Equal(t, Drawn, o.Pull(0))
	o.TakeBack()
	require.Equal(t, Moved, o.Pull(0))
	finished := make(chan bool, 1)
	go func() { finished <- o.Finish() }()
	select {
	case done := <-finished:
		assert.False(t, done)
	case <-b.ctx.Done():
		assert.Fail(t, "Finish waits for the Writer")
	}
	close(leave)
	testproc.Wait(t, o.Finish)
	assert.Equal(t, "abc.", string(got))
}
