package drain

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A State says why a step stopped.
type State int

// The states of a step.
const (
	Moved   State = iota // bytes were moved; there may be more
	Starved              // nothing to move at the moment
	Blocked              // nowhere to move it to at the moment
	Ended                // the end was reached; there will be no more
	Drawn                // the Writer's goroutine moves the bytes, and notifies at the end
	Held                 // a process holds the pipe; the run is notified when it lets go
)

// ErrHeld says that a call on a pipe has not returned, because a process holds the pipe. Repeat the same call with the
// same bytes, which stay in use until the call returns something else.
var ErrHeld = errors.New("a process holds the pipe")

// An Output drains one output pipe. It belongs to one goroutine, except as [Output.Lend] says.
//
// Bytes beyond the limit that StopAt sets are read and counted, and dropped.
type Output struct {
	pipe io.Reader // non-blocking: EAGAIN when empty
	heavy

	// Where the bytes go: one of keep, now and pump, or, after Tee, keep and pump.
	keeper
	now  io.Writer // known not to block
	pump *Pump

	open   func() Source // of Lend
	source Source        // what it returned
	chunks int32         // put into the pump
	held   *chunk        // a call that has not returned reads into it
	ended  bool

	stopAt    int64        // -1: no limit on the total
	total     atomic.Int64 // by the goroutine that reads the pipe
	delivered int64        // to now, or to keep
	err       error        // of now, or of the pipe
}

// Capture makes o keep the head and the tail of the pipe in b.
func (o *Output) Capture(pipe io.Reader, b *HeadTail) {
	o.pipe, o.keep, o.stopAt = pipe, b, -1
}

// Stream makes o write to w, by plain Write calls in order. It writes to a Writer that is known never to block
// directly, and to any other on a goroutine, which calls notify when a Writer that was Blocked is ready for more, or
// has finished.
func (o *Output) Stream(pipe io.Reader, w io.Writer, notify func()) {
	o.pipe, o.stopAt = pipe, -1
	switch w.(type) {
	case *bytes.Buffer, *strings.Builder:
		o.now = w
	default:
		if w == io.Discard {
			o.now = w
		} else {
			o.pump = newPump(w, notify)
		}
	}
}

// AtEnd makes the Writer's goroutine call f after the last Write, as if it were one. Call it before the first Pull.
func (o *Output) AtEnd(f func() error) {
	if o.pump != nil {
		o.pump.atEnd = f
	}
}

// StopAt sets the limit of the total.
func (o *Output) StopAt(n int64) { o.stopAt = n }

// Total returns how many bytes were read from the pipe.
func (o *Output) Total() int64 { return o.total.Load() }

// Exceeded reports whether more came than StopAt allows.
func (o *Output) Exceeded() bool { return o.stopAt >= 0 && o.Total() > o.stopAt }

// Ended reports whether the end of the pipe was reached.
func (o *Output) Ended() bool { return o.ended }

// Pull reads what one turn may move, at most limit bytes if limit is positive. Blocked means that the caller's Writer
// is busy and nothing was read: the pipe fills, and the command waits, as for a slow reader in a shell.
func (o *Output) Pull(limit int) State {
	if o.ended {
		return Ended
	}
	if o.source != nil {
		if drawing, ended, err := o.pump.drawn(); drawing {
			return Drawn
		} else if o.pump.stillReading() {
			return Held
		} else if ended {
			return o.state(0, err)
		}
	}
	if o.held != nil {
		return o.pull(o.held, len(o.held.buf))
	}
	if o.direct() {
		return o.fill(cmp.Or(max(limit, 0), largeSize))
	}
	if o.pump != nil && !o.pump.Room() {
		return Blocked
	}
	if o.pump != nil && limit <= 0 && o.lend() {
		return Drawn
	}
	if limit <= 0 {
		limit = largeSize
	}
	if o.readsIntoKeep() {
		return o.fill(limit)
	}
	size := chunkSize
	if o.pump == nil { // several chunks can wait for a pump
		size = o.size()
	}
	return o.pull(borrow(size), min(size, limit))
}

// pull reads up to n bytes into c and delivers them.
func (o *Output) pull(c *chunk, n int) State {
	n, err := o.read(c.buf[:n])
	if errors.Is(err, ErrHeld) {
		o.held = c
		return Held
	}
	o.held = nil
	if n > 0 {
		o.deliver(c, n)
	} else {
		c.giveBack()
	}
	return o.state(n, err)
}

// direct reports whether a call that has not returned reads into keep.
func (o *Output) direct() bool { return o.keep != nil && o.keep.Lent() }

// readsIntoKeep reports whether to read straight into keep. Where the ring is shorter than a turn that takes many small
// reads, which cost more than to copy what stays of a large one.
func (o *Output) readsIntoKeep() bool {
	return o.keep != nil && o.pump == nil && o.stopAt < 0 && o.keep.limit/2 >= largeSize && o.keep.Space() != nil
}

// fill reads into keep, up to limit bytes. It reads again only if the room in keep ended the read before: a pipe that
// gave less is empty, and a writer that fills it again has it locked meanwhile.
func (o *Output) fill(limit int) State {
	moved := 0
	for {
		space := o.keep.Space()
		space = space[:min(len(space), limit-moved)]
		n, err := o.read(space)
		held := errors.Is(err, ErrHeld)
		if !held {
			o.keep.Lend(0)
		} else if !o.direct() { // or it is the same read, which may have been given more
			o.keep.Lend(len(space))
		}
		o.keep.Took(n)
		o.total.Add(int64(n))
		o.delivered += int64(n)
		if n == 0 && moved > 0 && (errors.Is(err, syscall.EAGAIN) || held) {
			return Moved
		}
		moved += n
		if n < len(space) || moved >= limit || o.keep.Space() == nil {
			return o.state(n, err)
		}
	}
}

// read reads once.
func (o *Output) read(p []byte) (int, error) {
	n, err := o.pipe.Read(p)
	if n >= chunkSize {
		o.found(o.pipe)
	}
	return n, err
}

// state returns the State after a read.
func (o *Output) state(n int, err error) State {
	switch {
	case n > 0:
		return Moved
	case errors.Is(err, syscall.EAGAIN):
		return Starved
	case errors.Is(err, ErrHeld):
		return Held
	case err != nil && o.err == nil:
		o.err = err
	}
	o.ended = true
	return Ended
}

// deliver passes on the first n bytes of c, and gives c up.
func (o *Output) deliver(c *chunk, n int) {
	n = o.admit(n)
	if n > 0 && o.keep != nil {
		o.retain(c.buf[:n])
		o.delivered += int64(n)
	}
	switch {
	case n == 0 || o.now == nil && o.pump == nil:
	case o.now != nil:
		if o.err == nil {
			var m int
			m, o.err = write(o.now, c.buf[:n])
			o.delivered += int64(m)
		}
	case o.pump.Put(c, n):
		o.chunks++
		return // the pump gives it back
	}
	c.giveBack()
}

// admit counts n bytes, and returns how many of them may be delivered.
func (o *Output) admit(n int) int {
	total := o.total.Add(int64(n))
	if over := total - o.stopAt; o.stopAt >= 0 && over > 0 {
		n = max(n-int(min(over, int64(n))), 0)
	}
	return n
}

// write is one Write that keeps io.Writer's contract.
func write(w io.Writer, p []byte) (int, error) {
	n, err := w.Write(p)
	if n < 0 || n > len(p) {
		n, err = 0, errInvalidWrite
	}
	if n < len(p) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

var errInvalidWrite = errors.New("writer returned an impossible count")

// Finish ends the pulling, and reports whether the Writer has all that was pulled. If not, Busy tells when its present
// call began.
func (o *Output) Finish() bool {
	o.TakeBack()
	return o.pump == nil || o.pump.Finish()
}

// Busy returns when the Writer's present call began; zero if it is in none.
func (o *Output) Busy() time.Time {
	if o.pump == nil {
		return time.Time{}
	}
	return o.pump.Busy()
}

// Abandon gives up a Writer that did not finish: its goroutine ends when the present call returns.
func (o *Output) Abandon() {
	if o.pump != nil {
		o.TakeBack()
		o.pump.Abandon()
	}
}

// Dropped returns how many of the bytes read did not reach their destination: those beyond StopAt, those that the
// Writer refused, and those that Abandon left behind. A HeadTail counts what it drops by itself.
func (o *Output) Dropped() int64 {
	if o.tee != nil {
		return o.Total() - o.tee.before - o.pump.Delivered()
	}
	if o.pump != nil {
		return o.Total() - o.pump.Delivered()
	}
	return o.Total() - o.delivered
}

// Err returns the first error of the Writer, else of the pipe.
func (o *Output) Err() error {
	if o.pump != nil {
		if err := o.pump.Err(); err != nil {
			return err
		}
	}
	return o.err
}
