package safeexec

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
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
// [AbandonedPipe], is waited for until the drain timeout. Processes that are alive then get no signal and
// are in Result.Left; neither they nor a pipe that is still held, by them or by others, are an error.
// They become children of PID 1, or of the nearest subreaper, which must reap them. Output that
// was written before the command exited is delivered; what comes later may be, until the return, and
// is neither counted nor kept after it. Standard input is closed.
//
// Closing their output pipes would kill them by SIGPIPE, and leaving the pipes alone would block them once
// 64 KiB are in. So one goroutine for all discards what they write. [LeftPipes] lists the pipes and says how
// to release them. That lasts as long as this process does: a service that should outlive it needs a file,
// or /dev/null, for its output, and so does one whose output matters. Wait closes a pipe of StdoutPipe or
// StderrPipe, as os/exec does; its output is not discarded.
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
// holds its other end. What is written to it is discarded until no process holds it, Release, or the
// end of this process. The zero LeftPipe has ended. Its methods may be called from any goroutine.
type LeftPipe struct {
	PID     int       // of the command, which has ended: by now the number may be another process's
	Program string    // the last element of its path
	FD      int       // which output it was: 1 for standard output, or both; 2 for standard error
	Since   time.Time // when the run left it

	// HeldElsewhere says that no process of Result.Left was seen to hold the pipe when it was left: another does.
	// Result.Holders names those that were seen. It may be a child of another run, which holds everything between its
	// fork and its exec, or one of this run before its redirections: such a pipe ends within milliseconds.
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

// Done returns a channel that is closed once the pipe is: no process holds its other end, or it was released.
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

type diagnosticOption struct {
	Signal syscall.Signal
	Wait   time.Duration
}

func (o diagnosticOption) apply(c *config) {
	c.DiagnosticSet, c.Diagnostic = true, engine.Diagnostic(o)
}

// WithDiagnosticSignal makes a tree that is ended by force first say what it was doing: the run sends
// sig to the whole tree, followed by SIGCONT, and gives its handlers d to write before the signal that
// asks it to end. It reads what they write as all other output. SIGQUIT makes Go and Java programs print
// the stacks of all threads; Python's faulthandler.register does so for a signal of choice.
//
// The whole tree gets sig because the program that is stuck is often a child of a shell. A program
// without a handler for sig dies of it, and so does a Go program after it has printed its stacks. The run
// waits for all of d, unless the tree is gone before: nothing says when a dump is complete.
//
// It is sent when a bound was hit, by the timeout, cancellation, silence or [Process.Stop], after
// the [Report] and before [WithTermSignal]; not when output exceeded its limit, nor to what a
// command that exited by itself has left behind, unless that was waited for, [BackgroundWait]. sig
// must be one that can be handled, so neither SIGKILL nor SIGSTOP; d must be positive. Run can take
// longer by d.
func WithDiagnosticSignal(sig syscall.Signal, d time.Duration) Option {
	return diagnosticOption{sig, d}
}

func (c *config) checkDiagnostic() error {
	if !c.DiagnosticSet {
		return nil
	}
	switch sig := c.Diagnostic.Signal; {
	case sig <= 0 || sig > engine.MaxSignal:
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "is no signal"}
	case sig == syscall.SIGKILL || sig == engine.SIGSTOP:
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "cannot be handled by any program"}
	case c.Diagnostic.Wait <= 0:
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "needs a positive duration"}
	}
	return nil
}

type forceOption struct{ ctx context.Context }

func (o forceOption) apply(c *config) { c.Forces = append(slices.Clip(c.Forces), o.ctx) }

// WithForce ends the grace period when ctx is done: a tree that was asked to end is killed. It ends no run by itself.
// A run that comes to its end later has no grace period, and neither a [Report] nor [WithDiagnosticSignal].
//
// It is for a second request, as of a user who presses Ctrl-C again; [NotifyContext] brings its own. Each WithForce
// adds a context.
func WithForce(ctx context.Context) Option { return forceOption{ctx} }

func (c *config) checkForce() error {
	if slices.Contains(c.Forces, nil) {
		return &ConfigError{Name: "WithForce", Reason: "is nil"}
	}
	return nil
}

// NotifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. Runs with that context, or one
// that is made from it, are then ended as by any cancellation; the second signal kills them, without what is left
// of their grace period: see [WithForce]. The third has its usual effect, which is that this program dies. stop gives
// the signals back, and cancels the context. The context's cause says which signal came.
//
// What comes within half a second of a signal belongs to it. Ctrl-C reaches each process of the terminal's foreground
// group, and a parent among them, as npm, go run or another supervisor, may pass it on besides: that is no second
// request.
//
// A command gets nothing of Ctrl-C, since it leads a session of its own. If it uses this package itself, it gets
// SIGTERM of this run, and ends its own runs by it. While a command has the terminal, [WithTerminal], Ctrl-C is for
// that command alone. SIGINT and SIGHUP that are ignored, as nohup and a shell's background jobs have it, remain so.
func NotifyContext(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	wanted := slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	signals := make(chan os.Signal, 1)
	if len(wanted) > 0 { // none would be all
		signal.Notify(signals, wanted...)
	}
	return notify(parent, signals, func() { signal.Stop(signals) })
}

// oneRequest is the time in which signals count as one.
const oneRequest = 500 * time.Millisecond

type forceKey struct{}

// notify is NotifyContext for signals that come from the channel until release is called.
func notify(parent context.Context, signals <-chan os.Signal, release func()) (context.Context, context.CancelFunc) {
	outer, ok := parent.Value(forceKey{}).(context.Context)
	if !ok {
		outer = context.Background()
	}
	force, kill := context.WithCancel(outer)
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, forceKey{}, force))
	quit := make(chan struct{})
	go func() { // ended by stop, or after the second request
		sig, ok := nextRequest(signals, quit)
		if !ok {
			return
		}
		cancel(signalError{sig})
		settled := time.NewTimer(oneRequest)
		defer settled.Stop()
		if !settles(signals, settled.C, quit) {
			return
		}
		if _, ok = nextRequest(signals, quit); !ok {
			return
		}
		kill()
		settled.Reset(oneRequest)
		if settles(signals, settled.C, quit) {
			release()
		}
	}()
	stop := sync.OnceFunc(func() {
		release()
		close(quit)
		cancel(nil)
	})
	return ctx, stop
}

func nextRequest(signals <-chan os.Signal, quit <-chan struct{}) (os.Signal, bool) {
	select {
	case sig := <-signals:
		return sig, true
	case <-quit:
		return nil, false
	}
}

// settles takes the signals that belong to one request. It reports false at quit.
func settles(signals <-chan os.Signal, settled <-chan time.Time, quit <-chan struct{}) bool {
	for {
		select {
		case <-signals:
		case <-settled:
			return true
		case <-quit:
			return false
		}
	}
}

// A signalError is the cause of a context that a signal has canceled.
type signalError struct{ signal os.Signal }

func (e signalError) Error() string { return e.signal.String() + " signal received" }

// StopAll ends all runs of this process that have begun. All trees are asked to end at once, each with the grace period
// of its run, which is over for all when ctx is done: see [Process.Stop] and [WithForce]. Runs that begin later are not
// touched. It returns when all have ended, and needs no bound of its own: the longest [StopBound] of the runs
// is one. The error matches [ErrSurvivors] if processes are left, and names them.
//
// It is for the end of a program whose runs have several owners. A Reader, Writer or callback of a run must not call
// it, or that run waits for it as long as it may.
func StopAll(ctx context.Context) error {
	if ctx == nil {
		return &ConfigError{Name: "ctx", Reason: "is nil"}
	}
	if survivors := engine.StopAll(ctx.Done()); len(survivors) > 0 {
		return &Error{Op: "stopall", errs: []error{survivorsError(infos(survivors), 0)}}
	}
	return nil
}
