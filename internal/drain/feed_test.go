package drain

import (
	"bytes"
	"io"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestStarvedIsFollowedByAWakeUp(t *testing.T) {
	testproc.NoLeaks(t)
	r := testproc.NewStalledReader([]byte("late"))
	var sink scriptedSink
	in, b := input(t, &sink, r)
	<-r.Entered()
	for range 3 {
		assert.Equal(t, Starved, in.Push())
		assert.Nil(t, in.chunk, "a run that waits holds no buffer")
	}
	b.silent(t)
	r.Release()
	pushAll(t, in, b)
	assert.Equal(t, "late", sink.got.String())
	leave(t, in, b)
}

func TestQuitWithReaderStuck(t *testing.T) {
	testproc.NoLeaks(t)
	r := testproc.NewStalledReader([]byte("too late"))
	var sink scriptedSink
	in, b := input(t, &sink, r)
	<-r.Entered()
	require.Equal(t, Starved, in.Push())
	for range 3 {
		assert.False(t, in.Quit())
	}
	assert.Equal(t, Ended, in.Push())
	b.silent(t)
	r.Release()
	leave(t, in, b)
	assert.True(t, in.Quit(), "and so it stays")
	assert.Zero(t, sink.calls)
	assert.NoError(t, in.Err())
}

// One chunk lies ready, the next waits to be handed over. Quit must end that as well.
func TestQuitWithChunksUnread(t *testing.T) {
	testproc.NoLeaks(t)
	var calls atomic.Int32
	ahead := make(chan struct{}, 100)
	in, b := input(t, new(scriptedSink), readerFunc(func(p []byte) (int, error) {
		calls.Add(1)
		ahead <- struct{}{}
		return copy(p, "more"), nil
	}))
	<-ahead
	<-ahead
	leave(t, in, b)
	after := calls.Load()
	assert.LessOrEqual(t, after, int32(3), "reads one chunk ahead and no more")
	runtime.Gosched()
	assert.Equal(t, after, calls.Load(), "a Reader that was left is not called")
}

// A Reader that returns nothing for ever is left like any other.
func TestQuitDuringEmptyReads(t *testing.T) {
	testproc.NoLeaks(t)
	entered, gate := make(chan struct{}, maxEmptyReads), make(chan struct{})
	in, b := input(t, new(scriptedSink), readerFunc(func([]byte) (int, error) {
		entered <- struct{}{}
		<-gate
		return 0, nil
	}))
	<-entered
	assert.False(t, in.Quit())
	gate <- struct{}{} // ends this call; there must be no other
	leave(t, in, b)
	assert.Empty(t, entered)
}

// fitful gives its data in pieces, with pauses of the scheduler's between them.
type fitful struct {
	data   []byte
	rng    *rand.Rand
	yields int
}

func (f *fitful) Read(p []byte) (int, error) {
	for range f.rng.IntN(f.yields + 1) {
		runtime.Gosched()
	}
	if len(f.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.data[:1+f.rng.IntN(min(3, len(f.data)))])
	f.data = f.data[n:]
	return n, nil
}

// The run waits for nothing but the bell. Were one wake-up lost, pushAll would wait for ever.
func TestFeedLosesNoWakeUp(t *testing.T) {
	seed := testproc.Seed(t)
	for i := range testproc.Rounds(50) {
		want := count(50)
		var sink scriptedSink
		r := &fitful{data: bytes.Clone(want), rng: rand.New(rand.NewPCG(seed+uint64(i), 5)), yields: i % 4}
		in, b := input(t, &sink, r)
		pushAll(t, in, b)
		leave(t, in, b)
		require.Equal(t, want, sink.got.Bytes())
	}
}

// Quit at any moment of the goroutine's life must be answered: at once, or by the bell.
func TestQuitLosesNoWakeUp(t *testing.T) {
	seed := testproc.Seed(t)
	for i := range testproc.Rounds(200) {
		rng := rand.New(rand.NewPCG(seed+uint64(i), 6))
		var inside atomic.Int32
		f := &fitful{data: count(20), rng: rand.New(rand.NewPCG(seed+uint64(i), 7)), yields: 3}
		in, b := input(t, new(scriptedSink), readerFunc(func(p []byte) (int, error) {
			inside.Add(1)
			defer inside.Add(-1)
			return f.Read(p)
		}))
		for range rng.IntN(10) {
			in.Push()
			if rng.IntN(2) == 0 {
				runtime.Gosched()
			}
		}
		leave(t, in, b)
		require.Zero(t, inside.Load(), "the Reader is the caller's again")
	}
}

// A Reader that is filled by another goroutine, and ends with an error of its own.
func TestFeedFromPipe(t *testing.T) {
	testproc.NoLeaks(t)
	r, w := io.Pipe()
	var sink scriptedSink
	in, b := input(t, &sink, r)
	written := make(chan struct{})
	go func() {
		defer close(written)
		for range 100 {
			w.Write([]byte("0123456789"))
		}
		w.CloseWithError(assert.AnError)
	}()
	pushAll(t, in, b)
	<-written
	assert.Len(t, sink.got.Bytes(), 1000)
	assert.ErrorIs(t, in.Err(), assert.AnError)
	leave(t, in, b)
}
