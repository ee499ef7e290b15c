package drain

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
)

// An Input fills a command's standard input from a Reader. It belongs to one goroutine.
type Input struct {
	pipe io.Writer // non-blocking: EAGAIN when full

	now  io.Reader // known not to block
	feed *feed     // anything else

	chunk   *[chunkSize]byte // lent while pending is not empty
	pending []byte
	written int64
	err     error // of the Reader, or of the pipe; EPIPE is none
	ended   bool
}

// Feed makes in read from r. Readers known never to block are read directly, others
// by a goroutine; notify is called when one of those has something after it was found Starved.
func (in *Input) Feed(pipe io.Writer, r io.Reader, notify func()) {
	*in = Input{pipe: pipe}
	switch r.(type) {
	case *bytes.Reader, *bytes.Buffer, *strings.Reader:
		in.now = r
	default:
		in.feed = &feed{
			r:      r,
			notify: notify,
			chunks: make(chan read, 1),
			quit:   make(chan struct{}),
		}
		go in.feed.run()
	}
}

// maxPush is how many chunks one Push moves at most, so that a fast command does not keep the run from
// its deadline.
const maxPush = 16

// Push writes until it is Starved (the Reader has nothing yet), Blocked (the pipe is full) or Ended, or
// has Moved enough for one call. At the end the caller closes the pipe: that is the command's end of
// file.
func (in *Input) Push() State {
	for range maxPush {
		if in.ended {
			return Ended
		}
		if len(in.pending) == 0 && !in.next() {
			if in.ended {
				return Ended
			}
			return Starved
		}
		n, err := in.pipe.Write(in.pending)
		in.written += int64(n)
		in.pending = in.pending[n:]
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return Blocked
		case errors.Is(err, syscall.EPIPE):
			in.end(nil) // the command does not want the rest: its business, as in a shell
		case err != nil:
			in.end(err)
		}
	}
	return Moved
}

// next lends the next chunk to pending. It reports false where there is none, now or ever.
func (in *Input) next() bool {
	var got read
	if in.now != nil {
		if in.chunk == nil {
			in.chunk = chunks.Get().(*[chunkSize]byte)
		}
		got = read{buf: in.chunk}
		got.n, got.err = in.now.Read(in.chunk[:])
	} else {
		in.release()
		var ok bool
		if got, ok = in.feed.take(); !ok {
			return false
		}
		in.chunk = got.buf
	}
	if got.n > 0 {
		in.pending = in.chunk[:got.n]
		return true // an error that came with data comes again, or was kept by the feed
	}
	if errors.Is(got.err, io.EOF) {
		got.err = nil
	}
	in.end(got.err)
	return false
}

func (in *Input) end(err error) {
	in.ended = true
	in.err = err
	in.pending = nil
	in.release()
}

func (in *Input) release() {
	if in.chunk != nil {
		chunks.Put(in.chunk)
		in.chunk = nil
	}
}

// Written returns how many bytes the pipe took.
func (in *Input) Written() int64 { return in.written }

// Err returns what the Reader or the pipe failed with.
func (in *Input) Err() error { return in.err }

// Quit says that nothing more will be pushed, and reports whether the Reader is out of its last
// call. If not, notify will be called when it is.
func (in *Input) Quit() bool {
	if !in.ended {
		in.end(nil)
	}
	return in.feed == nil || in.feed.leave()
}

// A feed reads ahead one chunk in a goroutine of its own, which ends at the Reader's end, or after
// leave as soon as the Reader returns.
type feed struct {
	r      io.Reader
	notify func()
	chunks chan read     // capacity 1; closed by run when it ends
	quit   chan struct{} // closed by leave
	left   bool          // leave was called; the run's own
	wanted atomic.Bool   // the run waits for a chunk, or for the end
}

// read is the outcome of one Read: n bytes of buf, or an error.
type read struct {
	buf *[chunkSize]byte
	n   int
	err error
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
	for empty := 0; !f.quitting(); {
		buf := chunks.Get().(*[chunkSize]byte)
		n, err := f.r.Read(buf[:])
		switch {
		case n < 0 || n > chunkSize:
			n, err = 0, errInvalidRead
		case n == 0 && err == nil:
			if empty++; empty < maxEmptyReads {
				chunks.Put(buf)
				continue
			}
			err = io.ErrNoProgress
		}
		empty = 0
		if n > 0 && !f.give(read{buf: buf, n: n}) {
			return
		}
		if err != nil {
			if n > 0 {
				buf = chunks.Get().(*[chunkSize]byte)
			}
			f.give(read{buf: buf, err: err})
			return
		}
	}
}

var errInvalidRead = errors.New("reader returned an impossible count")

// quitting reports whether the run has left: nothing more is read, which would be lost.
func (f *feed) quitting() bool {
	select {
	case <-f.quit:
		return true
	default:
		return false
	}
}

func (f *feed) give(r read) bool {
	if f.quitting() { // first: once the run has left, nobody takes what lies in chunks
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

// take returns what was read, if anything was. If not, notify will be called when something is. A
// Reader whose goroutine has ended without a last word (runtime.Goexit) is at its end.
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

// leave ends the goroutine and reports whether it has left the Reader. If not, notify will be called
// when it has.
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
			if r.buf != nil {
				chunks.Put(r.buf)
			}
		default:
			return false
		}
	}
}
