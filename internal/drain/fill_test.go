package drain

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A lentSink is a pipe that takes some bytes and is full then, until it is asked to wait for room. The
// race detector sees it when two write at once.
type lentSink struct {
	got     bytes.Buffer
	takes   func() int // how much until it is full; nil: everything
	fails   error      // of each Write
	parked  chan struct{}
	room    chan struct{} // nil: there is room again at once
	stopped chan struct{}
	stop    sync.Once
	lends   int
	refuses bool
	broken  bool
	lent    func() // called by the goroutine that has it, before it first writes; may be nil
}

func newLentSink() *lentSink {
	return &lentSink{parked: make(chan struct{}, 1), stopped: make(chan struct{})}
}

func (s *lentSink) LendRoom() Sink {
	s.lends++
	if s.refuses {
		return nil
	}
	return s
}

func (s *lentSink) Write(p []byte) (int, error) {
	if s.fails != nil {
		return 0, s.fails
	}
	if s.takes != nil {
		if n := s.takes(); n < len(p) {
			s.got.Write(p[:n])
			return n, syscall.EAGAIN
		}
	}
	return s.got.Write(p)
}

func (s *lentSink) AwaitRoom(try func(pipe io.Writer) bool) {
	if s.lent != nil {
		s.lent()
		s.lent = nil
	}
	for !s.broken {
		select {
		case <-s.stopped:
			return
		default:
		}
		if try(s) {
			return
		}
		if s.room == nil {
			continue
		}
		select {
		case s.parked <- struct{}{}:
		default:
		}
		select {
		case <-s.room:
		case <-s.stopped:
		}
	}
}

func (s *lentSink) Interrupt() { s.stop.Do(func() { close(s.stopped) }) }

// small reads a few bytes at a time, so that there are many chunks.
type small struct {
	r io.Reader
	n int
}

func (s small) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), s.n)]) }

func TestFilledToTheEnd(t *testing.T) {
	testproc.NoLeaks(t)
	seed := testproc.Seed(t)
	for i := range testproc.Rounds(50) {
		rng := rand.New(rand.NewPCG(seed+uint64(i), 9))
		data := count(200 + i)
		s := newLentSink()
		s.takes = func() int { return rng.IntN(6) }
		r := &fitful{data: bytes.Clone(data), rng: rand.New(rand.NewPCG(seed+uint64(i), 8)), yields: i % 4}
		in, b := input(t, s, r)
		in.Lend(s)
		pushAll(t, in, b)
		leave(t, in, b)
		require.Equal(t, 1, s.lends)
		require.Equal(t, string(data), s.got.String())
		require.Equal(t, int64(len(data)), in.Written())
		require.NoError(t, in.Err())
	}
}

// The run waits while the pipe is lent, and holds no buffer.
func TestLentInputIsStarved(t *testing.T) {
	testproc.NoLeaks(t)
	s := newLentSink()
	begun, done := make(chan struct{}), make(chan struct{})
	s.lent = func() { close(begun) }
	r, w := io.Pipe()
	sent := 0
	go func() {
		defer close(done)
		for ; ; sent++ {
			select {
			case <-begun:
				return
			default:
				w.Write([]byte("x"))
			}
		}
	}()
	in, b := input(t, s, r)
	in.Lend(s)
	for lent := false; !lent; {
		if in.Push() != Starved {
			continue
		}
		select {
		case <-begun:
			lent = true
		case <-b.rung:
		}
	}
	<-done
	for range 3 {
		assert.Equal(t, Starved, in.Push())
		assert.Nil(t, in.chunk)
	}
	w.CloseWithError(assert.AnError)
	pushAll(t, in, b)
	assert.ErrorIs(t, in.Err(), assert.AnError)
	assert.Equal(t, sent, s.got.Len())
	leave(t, in, b)
}

// An error that comes with the last bytes comes after them.
func TestLentInputEndsWithData(t *testing.T) {
	testproc.NoLeaks(t)
	s := newLentSink()
	calls := 0
	in, b := input(t, s, readerFunc(func(p []byte) (int, error) {
		if calls++; calls == 3*lendRoomAfter {
			return copy(p, "last"), assert.AnError
		}
		return copy(p, "some,"), nil
	}))
	in.Lend(s)
	pushAll(t, in, b)
	assert.ErrorIs(t, in.Err(), assert.AnError)
	assert.Equal(t, (3*lendRoomAfter-1)*5+4, s.got.Len())
	assert.True(t, bytes.HasSuffix(s.got.Bytes(), []byte("some,last")))
	leave(t, in, b)
}

func TestLentInputFails(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*lentSink)
		want  error
	}{
		"not wanted": {func(s *lentSink) { s.fails = syscall.EPIPE }, nil},
		"fails":      {func(s *lentSink) { s.fails = syscall.EIO }, syscall.EIO},
		"broken":     {func(s *lentSink) { s.broken = true }, errSinkGone},
	} {
		t.Run(name, func(t *testing.T) {
			testproc.NoLeaks(t)
			s := newLentSink()
			s.lent = func() { c.spoil(s) }
			in, b := input(t, s, readerFunc(func(p []byte) (int, error) { return copy(p, "more"), nil }))
			in.Lend(s)
			pushAll(t, in, b)
			if c.want == nil {
				assert.NoError(t, in.Err())
			} else {
				assert.ErrorIs(t, in.Err(), c.want)
			}
			leave(t, in, b)
		})
	}
}

// A Reader that ends its goroutine is at its end.
func TestReaderEndsItsGoroutineWhileLent(t *testing.T) {
	testproc.NoLeaks(t)
	calls := 0
	s := newLentSink()
	in, b := input(t, s, readerFunc(func(p []byte) (int, error) {
		if calls++; calls == 2*lendRoomAfter {
			runtime.Goexit()
		}
		return copy(p, "x"), nil
	}))
	in.Lend(s)
	pushAll(t, in, b)
	leave(t, in, b)
	assert.Equal(t, 2*lendRoomAfter-1, s.got.Len())
}

// No reader makes room any more: Quit ends the wait.
func TestQuitWhileThereIsNoRoom(t *testing.T) {
	testproc.NoLeaks(t)
	s := newLentSink()
	s.room = make(chan struct{})
	s.lent = func() { s.takes = func() int { return 0 } }
	in, b := input(t, s, readerFunc(func(p []byte) (int, error) { return copy(p, "x"), nil }))
	in.Lend(s)
	for parked := false; !parked; {
		if in.Push() != Starved {
			continue
		}
		select {
		case <-s.parked:
			parked = true
		case <-b.rung:
		}
	}
	leave(t, in, b)
	assert.NoError(t, in.Err())
	assert.Equal(t, int64(s.got.Len()), in.Written())
}

// The run writes a pipe that only it can wait for to the end.
func TestInputNotLent(t *testing.T) {
	testproc.NoLeaks(t)
	s := newLentSink()
	s.refuses = true
	data := count(100)
	in, b := input(t, s, small{bytes.NewReader(data), 3})
	in.Lend(s)
	pushAll(t, in, b)
	leave(t, in, b)
	assert.Equal(t, 1, s.lends)
	assert.Equal(t, string(data), s.got.String())
	assert.NoError(t, in.Err())
}

// Quit at any moment around the lending must be answered: at once, or by the bell, and no goroutine is in
// the Reader or in the pipe afterwards.
func TestQuitAroundLendingLosesNoWakeUp(t *testing.T) {
	seed := testproc.Seed(t)
	for i := range testproc.Rounds(100) {
		rng := rand.New(rand.NewPCG(seed+uint64(i), 10))
		var inside atomic.Int32
		f := &fitful{data: count(100), rng: rand.New(rand.NewPCG(seed+uint64(i), 11)), yields: 2}
		s := newLentSink()
		own := rand.New(rand.NewPCG(seed+uint64(i), 12))
		s.takes = func() int { return own.IntN(4) }
		in, b := input(t, s, readerFunc(func(p []byte) (int, error) {
			inside.Add(1)
			defer inside.Add(-1)
			return f.Read(p)
		}))
		in.Lend(s)
		for range rng.IntN(40) {
			in.Push()
			if rng.IntN(2) == 0 {
				runtime.Gosched()
			}
		}
		leave(t, in, b)
		require.Zero(t, inside.Load(), "the Reader is the caller's again")
		require.True(t, bytes.HasPrefix(count(100), s.got.Bytes()))
		require.Equal(t, int64(s.got.Len()), in.Written())
	}
}
