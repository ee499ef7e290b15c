package drain

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// fill pulls until the Writer has no room, and returns how much it pulled.
func fill(t *testing.T, o *Output) int64 {
	t.Helper()
	for range pumpDepth + 2 {
		if o.Pull(0) == Blocked {
			return o.Total()
		}
	}
	t.Fatal("a Writer that blocks has room without end")
	return 0
}

func TestBlockedReadsNothing(t *testing.T) {
	w := testproc.NewStalledWriter()
	p := reads("a", "b", "c", "d")
	o, b := stream(t, p, w)
	assert.Zero(t, o.Busy())
	fill(t, o)
	<-w.Entered()
	assert.NotZero(t, o.Busy())
	reads := len(p.asked)
	for range 3 {
		assert.Equal(t, Blocked, o.Pull(0))
	}
	assert.Len(t, p.asked, reads, "what is not read holds the command up, as it should")
	assert.False(t, o.Finish())
	w.Release()
	for !o.Finish() {
		b.wait(t)
	}
	assert.Zero(t, o.Busy())
	assert.Equal(t, "ab", string(w.Bytes()))
	assert.Zero(t, o.Dropped())
}

func TestNoGoroutineWithoutOutput(t *testing.T) {
	w := testproc.NewStalledWriter()
	before := runtime.NumGoroutine()
	o, b := stream(t, reads(), w)
	pullAll(t, o, b)
	testproc.Wait(t, func() bool { return runtime.NumGoroutine() <= before })
	b.silent(t)
}

// countingWriter stalls in each Write until the test lets it go on.
type countingWriter struct {
	calls   atomic.Int32
	entered chan struct{}
	leave   chan struct{}
}

func (w *countingWriter) Write(p []byte) (int, error) {
	w.calls.Add(1)
	w.entered <- struct{}{}
	<-w.leave
	return len(p), nil
}

func TestAbandonDuringWrite(t *testing.T) {
	for _, finish := range []bool{false, true} {
		w := &countingWriter{entered: make(chan struct{}, 10), leave: make(chan struct{})}
		var o *Output
		var b *bell
		var total int64
		t.Run("stuck", func(t *testing.T) {
			testproc.NoLeaks(t) // the goroutine ends once the Writer is released
			o, b = stream(t, reads("a", "bc", "def"), w)
			total = fill(t, o)
			<-w.entered
			if finish {
				assert.False(t, o.Finish())
			}
			o.Abandon()
			o.Abandon()
			assert.Equal(t, total, o.Dropped(), "what the Writer has taken by then is what counts")
			close(w.leave)
		})
		assert.Equal(t, int32(1), w.calls.Load(), "no Write after the one it was in")
		assert.Equal(t, total, o.Dropped(), "the counts stay what the result says")
		assert.Equal(t, total, o.Total())
		assert.NoError(t, o.Err())
		b.silent(t)
	}
}

func TestAbandonCountsWhatWasTaken(t *testing.T) {
	w := &countingWriter{entered: make(chan struct{}, 10), leave: make(chan struct{})}
	o, b := stream(t, reads("a", "bc", "def"), w)
	fill(t, o)
	<-w.entered
	w.leave <- struct{}{} // takes "a"
	<-w.entered           // is in "bc"
	b.wait(t)
	o.Abandon()
	assert.Equal(t, int64(2), o.Dropped())
	close(w.leave)
}

// An abandoned Writer's error comes too late to be anybody's.
func TestAbandonForgetsLaterError(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	var o *Output
	t.Run("stuck", func(t *testing.T) {
		testproc.NoLeaks(t)
		o, _ = stream(t, reads("a"), writerFunc(func([]byte) (int, error) {
			close(entered)
			<-leave
			return 0, assert.AnError
		}))
		require.Equal(t, Moved, o.Pull(0))
		<-entered
		o.Abandon()
		close(leave)
	})
	assert.NoError(t, o.Err())
}

func TestAbandonWithoutWrite(t *testing.T) {
	testproc.NoLeaks(t)
	w := new(wayAround)
	o, _ := stream(t, reads("a"), w)
	o.Abandon() // before there is a goroutine
	assert.Equal(t, Moved, o.Pull(0))
	assert.Equal(t, Ended, o.Pull(0))
	assert.Zero(t, w.writes)
	assert.Equal(t, int64(1), o.Dropped())
	assert.True(t, o.Finish())
}

// The run waits for nothing but the bell. Were one wake-up lost in all these rounds, pullAll would
// wait for ever.
func TestNoWakeUpIsLost(t *testing.T) {
	const chunksARound = 40
	rng := rand.New(rand.NewPCG(3+testproc.Seed(t), 4))
	for range testproc.Rounds(30) {
		var want bytes.Buffer
		p := new(scriptedPipe)
		for range chunksARound {
			s := string(count(1 + rng.IntN(3)))
			want.WriteString(s)
			p.steps = append(p.steps, readStep{data: s})
		}
		yields := rng.IntN(4)
		w := testproc.NewSlowWriter(func() {
			for range yields {
				runtime.Gosched()
			}
		})
		o, b := stream(t, p, w)
		pullAll(t, o, b)
		require.Equal(t, want.String(), string(w.Bytes()))
		require.Zero(t, o.Dropped())
	}
}

// Each time the run was told Blocked it must be woken, also if it does nothing but wait at once.
func TestEveryBlockedIsFollowedByAWakeUp(t *testing.T) {
	w := &countingWriter{entered: make(chan struct{}, 1), leave: make(chan struct{})}
	steps := make([]string, 2000)
	for i := range steps {
		steps[i] = "x"
	}
	o, b := stream(t, reads(steps...), w)
	blocked := 0
	for o.Total() < int64(len(steps)) {
		if o.Pull(0) == Moved {
			continue
		}
		blocked++
		<-w.entered
		w.leave <- struct{}{}
		b.wait(t)
	}
	go func() { // the rest
		for range w.entered {
			w.leave <- struct{}{}
		}
	}()
	for !o.Finish() {
		b.wait(t)
	}
	close(w.entered)
	assert.Zero(t, o.Dropped())
	assert.Equal(t, len(steps)-pumpDepth-1, blocked)
}

// A Writer that ends its goroutine while a chunk waits behind the one it has: nothing takes that chunk any
// more, and the run must not wait for it.
func TestWriterEndsItsGoroutineBeforeAQueuedChunk(t *testing.T) {
	testproc.NoLeaks(t)
	for _, wait := range []bool{false, true} {
		entered, leave := make(chan struct{}), make(chan struct{})
		o, b := stream(t, reads("a", "b", "c"), writerFunc(func([]byte) (int, error) {
			close(entered)
			<-leave
			runtime.Goexit()
			return 0, nil
		}))
		fill(t, o)
		<-entered
		if wait {
			assert.False(t, o.Finish())
		}
		close(leave)
		b.wait(t)
		if !wait {
			pullAll(t, o, b)
			assert.Equal(t, int64(3), o.Total(), "the command is read to its end all the same")
		}
		assert.True(t, o.Finish())
		assert.ErrorIs(t, o.Err(), errWriterGone)
		assert.Equal(t, o.Total(), o.Dropped())
	}
}

// A read that was under way when the pipe was taken back is waited for: what it brings goes to the Writer.
func TestFinishWaitsForTheLastRead(t *testing.T) {
	p := newPump(new(bytes.Buffer), func() {})
	p.setDrawing(true)
	require.True(t, p.beginReading())
	p.setDrawing(false)
	assert.False(t, p.Finish())
	assert.True(t, p.endReading(0, syscall.EAGAIN), "the run wants to know")
	assert.True(t, p.Finish())
	assert.False(t, p.beginReading(), "it is not lent any more")
}
