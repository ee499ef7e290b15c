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
	Drawn                // the Writer's goroutine moves it, and notifies when it is at the end
	Held                 // a process holds the pipe; a notice comes when it no longer does
)

// ErrHeld says that a call on a pipe has not come back, since a process holds the pipe. Repeat the same call, with the
// same bytes, which stay in use until it returns something else.
var ErrHeld = errors.New("a process holds the pipe")

// An Output drains one output pipe. It belongs to one goroutine, except as [Output.Lend] says.
//
// With a limit on the total, set by StopAt, the bytes beyond it are read and counted and go
// nowhere.
type Output struct {
	pipe io.Reader // non-blocking: EAGAIN when empty
	heavy

	// Where the bytes go; one of them, or keep and pump: see Tee.
	keep *HeadTail
	now  io.Writer // known not to block
	pump *Pump
	tee  *tee // guards keep beside a pump; else nil

	open   func() Source // of Lend
	source Source        // what it returned
	chunks int32         // put into the pump
	held   *chunk        // is read into by a call that has not come back
	direct bool          // such a call reads into keep itself
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

// Stream makes o write to w, by plain Write calls in order. Writers known never to
// block are written to directly, others by a goroutine; notify is called when one of those is
// ready for more after having been found Blocked, or has finished.
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

// AtEnd has f called by the Writer's goroutine behind the last Write, as one of them. It comes before the first Pull.
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

// Pull reads what one turn may move, at most limit bytes where limit is positive. Blocked means that the caller's
// Writer is busy and that nothing was read: the pipe fills, and the command waits, as it would
// before a slow reader in a shell.
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
	if o.direct {
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
	if o.pump == nil { // of those that are put, several can wait
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

// readsIntoKeep reports whether the pipe is to be read into what is kept itself. A ring that is shorter
// than a turn is not: many small reads cost more than to copy what stays of a large one.
func (o *Output) readsIntoKeep() bool {
	return o.keep != nil && o.pump == nil && o.stopAt < 0 && o.keep.limit/2 >= largeSize && o.keep.Space() != nil
}

// fill reads into what is kept, up to limit bytes. It goes on only where its own room was the bound: a
// pipe that gave less is empty, and a writer that fills it again has it locked meanwhile.
func (o *Output) fill(limit int) State {
	moved := 0
	for {
		space := o.keep.Space()
		space = space[:min(len(space), limit-moved)]
		n, err := o.read(space)
		o.direct = errors.Is(err, ErrHeld)
		o.keep.Took(n)
		o.total.Add(int64(n))
		o.delivered += int64(n)
		if n == 0 && moved > 0 && (errors.Is(err, syscall.EAGAIN) || o.direct) {
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

// state returns what a read came to.
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

// deliver passes on the first n bytes of c, and c itself.
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

// Finish says that nothing more will be pulled, and reports whether all that was pulled has
// reached the Writer. If not, Busy says since when the Writer has been in its present call.
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

// Abandon gives up on a Writer that did not finish: its goroutine ends when the present call
// returns, and writes no more.
func (o *Output) Abandon() {
	if o.pump != nil {
		o.TakeBack()
		o.pump.Abandon()
	}
}

// Dropped returns how many of the bytes read did not reach their destination: beyond StopAt,
// refused by the Writer, or left behind by Abandon. What a HeadTail drops it counts itself.
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
