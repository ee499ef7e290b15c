package drain

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"syscall"
)

// An Input fills a command's standard input from a Reader. It belongs to one goroutine.
type Input struct {
	pipe io.Writer // non-blocking: EAGAIN when full
	heavy

	now  io.Reader // known not to block
	feed *feed     // anything else

	lender Lender // of Lend, until it was asked
	sink   Sink   // what it returned
	chunks int    // taken from the feed
	last   bool   // the feed sends no other chunk before it is lent the pipe

	chunk   *chunk // lent while pending is not empty
	held    bool   // a call that has not returned writes pending
	pending []byte
	written int64
	err     error // of the Reader, or of the pipe; EPIPE is none
	ended   bool
}

// Feed makes in read from r: directly if r is known never to block, else on a goroutine, which calls notify when a
// Reader that was found Starved has something.
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

// Push writes until it is Starved (the Reader has nothing yet), Blocked (the pipe is full), Held or Ended, or has Moved
// enough for one call. At the end the caller closes the pipe, which is the command's end of file.
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
		if in.held = errors.Is(err, ErrHeld); in.held {
			return Held
		}
		if n < len(in.pending) {
			in.found(in.pipe)
		}
		in.written += int64(n)
		in.pending = in.pending[n:]
		switch {
		case errors.Is(err, syscall.EAGAIN):
			return Blocked
		case errors.Is(err, syscall.EPIPE):
			in.end(nil) // the command need not read all of its input, as in a shell
		case err != nil:
			in.end(err)
		}
	}
	return Moved
}

// next makes the next chunk pending. It reports false where there is none, now or at all.
func (in *Input) next() bool {
	var got read
	if in.now != nil {
		if in.chunk == nil {
			in.chunk = borrow(chunkSize)
		}
		got = read{chunk: in.chunk}
		got.n, got.err = in.now.Read(in.chunk.buf)
	} else {
		in.release()
		in.lend()
		var ok bool
		if got, ok = in.feed.take(); !ok {
			return false
		}
		in.chunks++
		in.chunk, in.last = got.chunk, got.last
	}
	if got.n > 0 {
		in.pending = in.chunk.buf[:got.n]
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
	if in.chunk != nil && !in.held { // else its bytes stay in use
		in.chunk.giveBack()
	}
	in.chunk = nil
}

// Written returns how many bytes the pipe took.
func (in *Input) Written() int64 {
	if in.feed != nil {
		return in.written + in.feed.written.Load()
	}
	return in.written
}

// Err returns the error of the Reader or the pipe.
func (in *Input) Err() error { return in.err }

// Quit ends the pushing, and reports whether the Reader has returned from its last call. If not, notify is called when
// it has.
func (in *Input) Quit() bool {
	if !in.ended {
		in.end(nil)
	}
	if in.feed == nil {
		return true
	}
	left := in.feed.leave()
	if in.sink != nil {
		in.sink.Interrupt()
	}
	return left
}
