package drain

import (
	"errors"
	"io"
	"sync/atomic"
)

// A feed reads one chunk ahead, on a goroutine of its own, which ends at the Reader's end, or after leave as soon as
// the Reader returns.
type feed struct {
	r      io.Reader
	notify func()
	chunks chan read     // capacity 1; closed by run when it ends
	quit   chan struct{} // closed by leave
	left   bool          // leave was called; the run's own
	wanted atomic.Bool   // the run waits for a chunk, or for the end

	// Of the pipe that is lent: see [Input.Lend].
	offered atomic.Bool  // by the run, after it made lent
	lent    chan Sink    // capacity 1
	written atomic.Int64 // by the goroutine

	// The goroutine's own.
	sink  Sink
	rest  []byte // what it has still to write
	flush func(pipe io.Writer) bool
	err   error // of the pipe
}

// read is the outcome of one Read: the first n bytes of a chunk, or an error.
type read struct {
	chunk *chunk
	n     int
	err   error
	last  bool // before the goroutine waits to be lent the pipe
}

// maxEmptyReads is how often a Reader may return neither data nor an error in a row.
const maxEmptyReads = 100

func (f *feed) run() {
	defer func() {
		close(f.chunks)
		if f.wanted.Swap(false) {
			f.notify()
		}
	}()
	for !f.quitting() {
		r := f.read()
		err := r.err
		r.err, r.last = nil, err == nil && f.sink == nil && f.offered.Load()
		switch {
		case r.n == 0:
			r.chunk.giveBack()
		case f.sink != nil:
			err = f.write(r, err)
		case !f.give(r):
			return
		}
		if err != nil {
			f.give(read{err: err})
			return
		}
		if r.last && !f.borrowPipe() {
			return
		}
	}
}

// read calls the Reader until it returns data, an error, or both, or the run has left.
func (f *feed) read() read {
	c := borrow(chunkSize)
	for range maxEmptyReads {
		n, err := f.r.Read(c.buf)
		if n < 0 || n > len(c.buf) {
			n, err = 0, errInvalidRead
		}
		if n > 0 || err != nil || f.quitting() {
			return read{chunk: c, n: n, err: err}
		}
	}
	return read{chunk: c, err: io.ErrNoProgress}
}

var errInvalidRead = errors.New("reader returned an impossible count")

// quitting reports whether the run has left: what is read then is lost.
func (f *feed) quitting() bool {
	select {
	case <-f.quit:
		return true
	default:
		return false
	}
}

func (f *feed) give(r read) bool {
	if f.quitting() { // first: once the run has left, no one takes a chunk
		return false
	}
	select {
	case f.chunks <- r:
		// Sent before wanted is read, and take sets wanted before it looks a second time: one of
		// the two sees the other.
		if f.wanted.Swap(false) {
			f.notify()
		}
		return true
	case <-f.quit:
		return false
	}
}

// take returns what was read, if anything. If not, the goroutine calls notify when there is something. A Reader that
// has ended the goroutine (runtime.Goexit) is at its end.
func (f *feed) take() (read, bool) {
	got, ok := f.poll()
	if !ok {
		f.wanted.Store(true)
		if got, ok = f.poll(); ok {
			f.wanted.Store(false)
		}
	}
	return got, ok
}

func (f *feed) poll() (read, bool) {
	select {
	case r, open := <-f.chunks:
		if !open {
			r.err = io.EOF
		}
		return r, true
	default:
		return read{}, false
	}
}

// leave ends the goroutine, and reports whether it has returned from the Reader. If not, it calls notify when it has.
func (f *feed) leave() bool {
	if !f.left {
		f.left = true
		close(f.quit)
	}
	f.wanted.Store(true)
	for {
		select {
		case r, ok := <-f.chunks:
			if !ok {
				return true
			}
			if r.chunk != nil {
				r.chunk.giveBack()
			}
		default:
			return false
		}
	}
}
