package drain

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
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
)

// chunkSize is how much one read asks for: the size of a pipe that nobody enlarged.
const chunkSize = 64 << 10

// chunks lends buffers, so that a run that waits holds none.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// An Output drains one output pipe. It belongs to one goroutine.
//
// With a limit on the total, set by StopAt, the bytes beyond it are read and counted and go
// nowhere.
type Output struct {
	pipe io.Reader // non-blocking: EAGAIN when empty

	// Where the bytes go; one of them.
	keep *HeadTail
	now  io.Writer // known not to block
	pump *Pump

	stopAt    int64 // -1: no limit on the total
	total     int64
	delivered int64 // to now, or to keep
	err       error // of now, or of the pipe
	ended     bool
}

// Capture makes o keep the head and the tail of the pipe in b.
func (o *Output) Capture(pipe io.Reader, b *HeadTail) {
	*o = Output{pipe: pipe, keep: b, stopAt: -1}
}

// Stream makes o write to w, by plain Write calls in order. Writers known never to
// block are written to directly, others by a goroutine; notify is called when one of those is
// ready for more after having been found Blocked, or has finished.
func (o *Output) Stream(pipe io.Reader, w io.Writer, notify func()) {
	*o = Output{pipe: pipe, stopAt: -1}
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

// StopAt sets the limit of the total.
func (o *Output) StopAt(n int64) { o.stopAt = n }

// Total returns how many bytes were read from the pipe.
func (o *Output) Total() int64 { return o.total }

// Exceeded reports whether more came than StopAt allows.
func (o *Output) Exceeded() bool { return o.stopAt >= 0 && o.total > o.stopAt }

// Ended reports whether the end of the pipe was reached.
func (o *Output) Ended() bool { return o.ended }

// Pull reads once, at most limit bytes where limit is positive. Blocked means that the caller's
// Writer is busy and that nothing was read: the pipe fills, and the command waits, as it would
// before a slow reader in a shell.
func (o *Output) Pull(limit int) State {
	if o.ended {
		return Ended
	}
	if o.pump != nil && !o.pump.Room() {
		return Blocked
	}
	buf := chunks.Get().(*[chunkSize]byte)
	p := buf[:]
	if limit > 0 && limit < len(p) {
		p = p[:limit]
	}
	n, err := o.pipe.Read(p)
	if n > 0 {
		o.deliver(buf, n)
		return Moved
	}
	chunks.Put(buf)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return Starved
	case err != nil && o.err == nil:
		o.err = err
	}
	o.ended = true
	return Ended
}

// deliver passes on the first n bytes of buf, and buf itself.
func (o *Output) deliver(buf *[chunkSize]byte, n int) {
	o.total += int64(n)
	if over := o.total - o.stopAt; o.stopAt >= 0 && over > 0 {
		n = max(n-int(min(over, int64(n))), 0)
	}
	switch {
	case n == 0:
	case o.keep != nil:
		_, _ = o.keep.Write(buf[:n])
		o.delivered += int64(n)
	case o.now != nil:
		if o.err == nil {
			var m int
			m, o.err = write(o.now, buf[:n])
			o.delivered += int64(m)
		}
	case o.pump.Put(buf, n):
		return // the pump gives buf back
	}
	chunks.Put(buf)
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
func (o *Output) Finish() bool { return o.pump == nil || o.pump.Finish() }

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
		o.pump.Abandon()
	}
}

// Dropped returns how many of the bytes read did not reach their destination: beyond StopAt,
// refused by the Writer, or left behind by Abandon. What a HeadTail drops it counts itself.
func (o *Output) Dropped() int64 {
	if o.pump != nil {
		return o.total - o.pump.Delivered()
	}
	return o.total - o.delivered
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
