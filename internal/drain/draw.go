package drain

import (
	"errors"
	"io"
	"syscall"
	"time"
)

// A Source is a pipe that a goroutine other than the run's can wait for.
type Source interface {
	// Await calls try when the pipe may have become readable, until try reports true, or Interrupt
	// was called, or the pipe closed.
	Await(try func(pipe io.Reader) bool)
	// Interrupt ends Await, the present one and all later ones. It does not wait.
	Interrupt()
}

// lendAfter is after how many chunks a stream is lent: short outputs are over by then.
const lendAfter = 2

// Lend lets the Writer's goroutine read the pipe by itself once the stream has lasted for some chunks: to hand over a
// chunk takes two switches of goroutines, and costs more than to copy it. Without lending, a GiB takes 2.3 times the
// CPU time. o calls open then, once; nil means that only the run can wait for the pipe.
//
// The pipe belongs to one side at a time: to the goroutine while drawing is true. Once TakeBack has made it false, only
// a read that is under way goes on. A process that holds the pipe can prolong that read. Until it returns the run does
// not read, and finds the pipe Held. The goroutine alone calls the Writer, before and after.
func (o *Output) Lend(open func() Source) { o.open = open }

// lend reports whether the Writer's goroutine reads the pipe from now on. The queue has room.
func (o *Output) lend() bool {
	if o.open == nil || o.chunks < lendAfter {
		return false
	}
	o.source = o.open()
	o.open = nil
	if o.source == nil {
		return false
	}
	return o.pump.lend(drawer{o}.draw)
}

// TakeBack returns the pipe to the run for good, once a read that is under way has returned.
func (o *Output) TakeBack() {
	o.open = nil
	if o.source != nil {
		o.pump.setDrawing(false)
		o.source.Interrupt()
	}
}

// Drawing reports whether the Writer's goroutine reads the pipe.
func (o *Output) Drawing() bool {
	if o.source == nil {
		return false
	}
	drawing, _, _ := o.pump.drawn()
	return drawing
}

// Reading reports whether the Writer's goroutine is in a read of the pipe, before or after TakeBack.
func (o *Output) Reading() bool { return o.source != nil && o.pump.stillReading() }

// LastDrawn returns when the Writer's goroutine last read a byte; zero if it never did.
func (o *Output) LastDrawn() time.Time {
	if o.source == nil {
		return time.Time{}
	}
	return o.pump.lastDrawn()
}

// A drawer is an Output whose pipe is lent, for the Writer's goroutine.
type drawer struct{ *Output }

// draw reads and writes until the end of the pipe, TakeBack, or a Source that gives up. It notifies the run when the
// pipe is the run's again, and when the limit is exceeded.
func (o drawer) draw() {
	exceeded := o.Exceeded()
	var f filled
	try := func(pipe io.Reader) (done bool) {
		f, done = o.take(pipe)
		return done
	}
	for {
		f = filled{}
		o.source.Await(try)
		if f.chunk == nil {
			break
		}
		if !exceeded && o.Exceeded() {
			exceeded = true
			o.pump.notify()
		}
		o.pump.one(f)
	}
	if o.pump.stopDrawing() {
		o.pump.notify()
	}
}

// take reads one chunk while the pipe is the goroutine's, and reports whether Await is over. A read can take for ever,
// so take does not hold the lock meanwhile.
func (o drawer) take(pipe io.Reader) (f filled, done bool) {
	p := o.pump
	if !p.beginReading() {
		return filled{}, true
	}
	c := borrow(o.size())
	n, err := pipe.Read(c.buf)
	if n >= chunkSize {
		p.whileDrawing(func() { o.found(o.pipe) })
	}
	kept := 0
	if n > 0 {
		kept = o.admit(n)
		if o.keep != nil {
			o.retain(c.buf[:kept])
		}
	}
	// The pipe is Held until here, so the run reads and counts what comes after this chunk.
	if p.endReading(n, err) {
		p.notify()
	}
	if n > 0 {
		return filled{chunk: c, n: kept}, true
	}
	c.giveBack()
	return filled{}, !errors.Is(err, syscall.EAGAIN)
}
