package safeexec

import (
	"time"

	"github.com/seed841d8200/safeexec/internal/discard"
)

// MaxLeftPipes is how many output pipes [BackgroundLeave] may leave in this process at a time. Each is
// a descriptor. A run needs two, or one where both outputs are merged or one is an *os.File.
const MaxLeftPipes = 256

// A LeftPipe is an output pipe that a run with [BackgroundLeave] has left, because a process still
// holds its other end. What is written to it is discarded until nobody holds it any more, Release, or
// the end of this process. The zero LeftPipe has ended. Its methods may be called from any goroutine.
type LeftPipe struct {
	PID     int       // of the command, which has ended: by now the number may be somebody else's
	Program string    // the last element of its path
	FD      int       // which output it was: 1 for standard output, or both; 2 for standard error
	Since   time.Time // when the run left it

	// HeldElsewhere says that no process of Result.Left was seen to hold the pipe when it was left: somebody else
	// does. Result.Holders names who was seen. It may be a child of another run, which holds everything between its
	// fork and its exec, or one of this on its way to its redirections: such a pipe ends within milliseconds.
	HeldElsewhere bool

	pipe *discard.Pipe
}

func newLeftPipe(p *discard.Pipe) LeftPipe {
	return LeftPipe{PID: p.PID, Program: p.Program, FD: p.FD, Since: p.Since, HeldElsewhere: p.HeldElsewhere, pipe: p}
}

// LeftPipes returns the pipes that runs have left and that have not ended, oldest first. To release all:
//
//	for _, p := range safeexec.LeftPipes() {
//		p.Release()
//	}
func LeftPipes() []LeftPipe {
	var list []LeftPipe
	for _, p := range leftPipes.Pipes() {
		list = append(list, newLeftPipe(p))
	}
	return list
}

// Discarded returns how many bytes were discarded so far.
func (p LeftPipe) Discarded() int64 {
	if p.pipe == nil {
		return 0
	}
	return p.pipe.Bytes()
}

// Done returns a channel that is closed once the pipe is: nobody holds its other end, or it was released.
func (p LeftPipe) Done() <-chan struct{} {
	if p.pipe == nil {
		return ended
	}
	return p.pipe.Ended()
}

// Release closes the pipe. A process that writes to it afterwards gets SIGPIPE, which ends it unless it
// ignores that, and then EPIPE. Releasing twice does nothing.
func (p LeftPipe) Release() {
	if p.pipe != nil {
		p.pipe.Close()
	}
}

// ended is closed.
var ended = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()
