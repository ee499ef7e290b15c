package drain

import (
	"errors"
	"io"
	"syscall"
)

// A Sink is a pipe whose room a goroutine other than the run's can wait for.
type Sink interface {
	// AwaitRoom calls try when the pipe may have room, until try reports true, or Interrupt was called,
	// or the pipe closed.
	AwaitRoom(try func(pipe io.Writer) bool)
	// Interrupt ends AwaitRoom, the present one and all later ones. It does not wait.
	Interrupt()
}

// A Lender makes a pipe one that another goroutine can wait for.
type Lender interface {
	// LendRoom is called once at most; nil means that it cannot be done.
	LendRoom() Sink
}

// lendRoomAfter is after how many chunks standard input is lent. A pipe that was not enlarged by then never is: the
// Reader returns little at a time, or the command reads it as fast as it comes.
const lendRoomAfter = 2 * growAfter

// Lend lets the Reader's goroutine fill the pipe by itself once the input has lasted for some chunks. It is the
// counterpart of [Output.Lend], and without it a GiB takes 1.8 times the CPU time.
//
// The pipe belongs to one side at a time. Once it is offered, the goroutine marks a chunk as the last, and waits. The
// run writes that chunk and lends the pipe: nothing else is under way then. From there on the run waits for the
// goroutine to end, as for a Reader that has nothing yet. It does not take the pipe back: it closes it, or Quit
// interrupts the goroutine.
func (in *Input) Lend(l Lender) { in.lender = l }

// lend takes the next step of lending. Nothing is pending.
func (in *Input) lend() {
	switch {
	case in.last:
		in.last = false
		in.feed.lent <- in.sink
	case in.lender != nil && in.chunks >= lendRoomAfter:
		in.sink = in.lender.LendRoom()
		in.lender = nil
		if in.sink != nil {
			in.feed.lent = make(chan Sink, 1)
			in.feed.offered.Store(true)
		}
	}
}

// borrowPipe waits to be lent the pipe. It reports false if the run has left.
func (f *feed) borrowPipe() bool {
	select {
	case f.sink = <-f.lent:
		f.flush = f.writeRest
		return true
	case <-f.quit:
		return false
	}
}

// write writes all that was read, and returns err, or why it could not. io.EOF is no failure.
func (f *feed) write(r read, err error) error {
	defer r.chunk.giveBack()
	f.rest = r.chunk.buf[:r.n]
	f.sink.AwaitRoom(f.flush)
	switch {
	case len(f.rest) == 0:
		return err
	case errors.Is(f.err, syscall.EPIPE):
		return io.EOF // the command need not read all of its input, as in a shell
	case f.err != nil:
		return f.err
	}
	return errSinkGone
}

var errSinkGone = errors.New("the pipe cannot be waited for any more")

// writeRest writes until the pipe is full, when it reports false, or there is nothing left to write.
func (f *feed) writeRest(pipe io.Writer) bool {
	for len(f.rest) > 0 && f.err == nil {
		n, err := pipe.Write(f.rest)
		f.written.Add(int64(n))
		f.rest = f.rest[n:]
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		f.err = err
	}
	return true
}
