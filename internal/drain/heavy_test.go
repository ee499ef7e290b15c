package drain

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A floodPipe plays a pipe that is always full, of as much as it holds, until all was read.
type floodPipe struct {
	data     []byte
	room     int // what it holds
	refuses  bool
	asked    int // how often it was to be enlarged
	reads    int
	longest  int
	starving bool // it gives EAGAIN after each time it was emptied
	empty    bool
}

func (p *floodPipe) Grow() bool {
	p.asked++
	if p.refuses {
		return false
	}
	p.room = largeSize
	return true
}

func (p *floodPipe) Read(b []byte) (int, error) {
	p.reads++
	if p.empty && p.starving {
		p.empty = false
		return 0, syscall.EAGAIN
	}
	n := copy(b[:min(len(b), p.room)], p.data)
	p.data = p.data[n:]
	p.longest = max(p.longest, n)
	p.empty = n == p.room
	return n, nil
}

// The pipe of a flood is enlarged once, and read in larger parts from then on; one turn has its bound.
func TestFloodIsReadInLargeParts(t *testing.T) {
	all := count(9*largeSize + 17)
	for _, limit := range []int{0, 10, 2 * minSpace, chunkSize, 2*largeSize - 1, 2 * largeSize, len(all), len(all) + 1} {
		for _, refuses := range []bool{false, true} {
			for _, starving := range []bool{false, true} {
				t.Run(fmt.Sprint(limit, refuses, starving), func(t *testing.T) {
					p := &floodPipe{data: all, room: chunkSize, refuses: refuses, starving: starving}
					o, keep := capture(p, limit)
					for o.Pull(0) != Ended {
						require.LessOrEqual(t, turn(o), int64(largeSize))
					}
					if refuses {
						assert.Equal(t, 4, p.asked, "at the 4th, the 8th, the 16th and the 32nd")
						assert.Equal(t, chunkSize, p.longest)
					} else {
						assert.Equal(t, 1, p.asked)
						assert.Equal(t, largeSize, p.longest)
					}
					assert.Equal(t, int64(len(all)), o.Total())
					assert.Equal(t, int64(len(all)), keep.Total())
					checkKept(t, keep, all, limit)
				})
			}
		}
	}
}

// turn returns how much one more Pull reads.
func turn(o *Output) int64 {
	before := o.Total()
	o.Pull(0)
	return o.Total() - before
}

func checkKept(t *testing.T, keep *HeadTail, all []byte, limit int) {
	t.Helper()
	head, tail := keep.Kept()
	if limit >= len(all) {
		assert.True(t, bytes.Equal(all, head))
		return
	}
	assert.True(t, bytes.Equal(all[:limit-limit/2], head))
	assert.True(t, bytes.Equal(all[len(all)-limit/2:], tail))
}

// An output that fills the pipe a few times is over before a larger one would pay.
func TestShortFloodIsNotEnlarged(t *testing.T) {
	p := &floodPipe{data: count((growAfter - 1) * chunkSize), room: chunkSize}
	o, _ := capture(p, 1<<20)
	for o.Pull(0) != Ended {
	}
	assert.Zero(t, p.asked)
}

// A pipe that is emptied faster than it fills needs no room.
func TestTrickleIsNotEnlarged(t *testing.T) {
	p := &floodPipe{data: count(5 << 20), room: chunkSize - 1}
	o, _ := capture(p, 1<<20)
	for o.Pull(0) != Ended {
	}
	assert.Zero(t, p.asked)
	assert.Equal(t, int64(5<<20), o.Total())
}

func TestFloodBeyondTheTotal(t *testing.T) {
	p := &floodPipe{data: count(3 << 20), room: chunkSize}
	o, keep := capture(p, 1000)
	o.StopAt(1 << 20)
	for o.Pull(0) != Ended {
	}
	assert.Equal(t, int64(3<<20), o.Total())
	assert.Equal(t, int64(2<<20), o.Dropped())
	checkKept(t, keep, count(1<<20), 1000)
}

func TestFloodToWriters(t *testing.T) {
	testproc.NoLeaks(t)
	all := count(3<<20 + 17)
	t.Run("at once", func(t *testing.T) {
		p := &floodPipe{data: all, room: chunkSize}
		var got strings.Builder
		o, b := stream(t, p, &got)
		pullAll(t, o, b)
		assert.Equal(t, largeSize, p.longest)
		assert.True(t, string(all) == got.String())
	})
	t.Run("put", func(t *testing.T) {
		p := &floodPipe{data: all, room: chunkSize}
		w := testproc.NewSlowWriter(func() {})
		o, b := stream(t, p, w)
		pullAll(t, o, b)
		assert.Equal(t, chunkSize, p.longest, "several wait at the same time")
		assert.True(t, bytes.Equal(all, w.Bytes()))
	})
	t.Run("drawn", func(t *testing.T) {
		p := &floodPipe{data: all, room: chunkSize}
		w := testproc.NewSlowWriter(func() {})
		o, b := stream(t, p, w)
		o.Lend(func() Source { return newSource(p) })
		for state := o.Pull(0); state != Ended; state = o.Pull(0) {
			if state != Moved {
				b.wait(t)
			}
		}
		assert.True(t, o.Finish())
		assert.Equal(t, 1, p.asked)
		assert.Equal(t, largeSize, p.longest)
		assert.True(t, bytes.Equal(all, w.Bytes()))
	})
}

// A fullSink plays an input pipe that takes little and is full then.
type fullSink struct {
	scriptedSink
	asked, turns int
}

func (s *fullSink) Grow() bool {
	s.asked++
	return true
}

func (s *fullSink) Write(p []byte) (int, error) {
	if s.turns++; s.turns%2 == 0 {
		return 0, syscall.EAGAIN
	}
	return s.scriptedSink.Write(p[:min(len(p), 1000)])
}

func TestFullInputIsEnlarged(t *testing.T) {
	data := count(3 * chunkSize)
	var sink fullSink
	in, b := input(t, &sink, bytes.NewReader(data))
	pushAll(t, in, b)
	assert.Equal(t, 1, sink.asked)
	assert.True(t, bytes.Equal(data, sink.got.Bytes()))

	var swift struct {
		scriptedSink
		grower
	}
	in, b = input(t, &swift, io.MultiReader(bytes.NewReader(data)))
	pushAll(t, in, b)
	leave(t, in, b)
	assert.True(t, bytes.Equal(data, swift.got.Bytes()), "never full: never asked")
}
