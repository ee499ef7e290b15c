package safeexec

import (
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// A Background says what becomes of the processes that a command leaves behind when it exits by itself.
type Background int

// The policies about background processes.
const (
	// BackgroundKill gives them the linger to end by themselves, and then ends them.
	BackgroundKill Background = iota
	// BackgroundWait waits for them as for the command.
	BackgroundWait
	// BackgroundLeave lets them live, and returns at once.
	BackgroundLeave
)

type backgroundOption Background

func (o backgroundOption) apply(c *config) { c.Background = engine.Background(o) }

// WithBackground sets what becomes of the processes that the command leaves behind when it exits by
// itself, with whatever status. A command that is ended, by a timeout, cancellation, silence, the
// output limit or [Process.Stop], is ended with its whole tree under each policy.
//
// [BackgroundKill], the default, ends them after the linger ([WithLinger]).
//
// [BackgroundWait] goes on with the run until the tree is empty: output moves, and each bound is in
// force, the idle timeout too. The status is the command's own in any case, and the cause says what
// ended the tree:
//
//	the command exited, and then      Cause              error
//	the tree became empty             CauseExited        nil, or *exec.ExitError
//	the timeout passed                CauseTimeout       ErrTimeout, and *exec.ExitError if it failed
//	the context was canceled          CauseCanceled      ErrCanceled, the same
//	no output came for too long       CauseIdle          ErrIdle, the same
//	too much came, OverflowStop       CauseOutputLimit   ErrOutputLimit, the same
//	Process.Stop                      CauseStopped       ErrStopped, the same
//
// A tree of up to 64 processes costs nothing while it is waited for: their deaths are reported, by
// pidfd_open(2). Of more, the rest is looked at in growing intervals of at most a second, and so are
// all where there are no pidfds.
//
// [BackgroundLeave] returns as soon as the command has exited, linger or not; a pipe that does not answer, see
// [AbandonedPipe], is waited for until the drain timeout. Who is alive then gets no
// signal and is in Result.Left; that and a pipe that is still held, by them or by others, are no error.
// They become children of PID 1, or of the nearest subreaper, whose part it is to reap them. Output that
// was written before the command exited is delivered; what comes later may be, until the return, and
// is neither counted nor kept after it. Standard input is closed.
//
// Their output pipes are not closed, which would kill them by SIGPIPE, and not left alone, which would
// block them once 64 KiB are in: what they write is discarded, by one goroutine for all. See
// [LeftPipes] for what there is and how to release it. That lasts as long as this process does: a service that
// is to outlive it needs a file, or /dev/null, for its output, and so does one whose output matters. A
// pipe of StdoutPipe or StderrPipe is closed by Wait, as by os/exec, and is not discarded.
//
// At most [MaxLeftPipes] pipes can be left at a time, counting those that runs under way may leave; a
// command for which there is no room is not started: [ErrTooManyLeft].
//
// BackgroundWait and BackgroundLeave need Linux, where processes can be listed. Elsewhere nothing is
// started, and the error is [ErrUnsupported] and a *[ConfigError].
func WithBackground(policy Background) Option { return backgroundOption(policy) }

func (c *config) checkBackground() error {
	switch {
	case c.Background < engine.BackgroundKill || c.Background > engine.BackgroundLeave:
		return &ConfigError{Name: "WithBackground", Reason: "is no known policy"}
	case c.Background != engine.BackgroundKill && !engine.Enumerates:
		return join(ErrUnsupported, &ConfigError{Name: "WithBackground", Reason: "needs Linux"})
	}
	return nil
}

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

	pipe *engine.LeftPipe
}

func newLeftPipe(p *engine.LeftPipe) LeftPipe {
	return LeftPipe{PID: p.PID, Program: p.Program, FD: p.FD, Since: p.Since, HeldElsewhere: p.HeldElsewhere, pipe: p}
}

// LeftPipes returns the pipes that runs have left and that have not ended, oldest first. To release all:
//
//	for _, p := range safeexec.LeftPipes() {
//		p.Release()
//	}
func LeftPipes() []LeftPipe {
	var list []LeftPipe
	for _, p := range engine.LeftPipes() {
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
