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

type diagnosticOption struct {
	Signal syscall.Signal
	Wait   time.Duration
}

func (o diagnosticOption) apply(c *config) {
	c.DiagnosticSet, c.Diagnostic = true, engine.Diagnostic(o)
}

// WithDiagnosticSignal has a tree that is ended by force say first what it was doing: sig goes to all
// of it, followed by SIGCONT, and it has d to write what its handlers write before the signal that
// asks it to end. What comes is read as all other output is. SIGQUIT makes Go and Java programs print
// the stacks of all threads; Python's faulthandler.register does so for a signal of choice.
//
// It is sent to the whole tree because the program that is stuck is often a child of a shell. A
// program without a handler for sig dies of it, and so does a Go program after it has printed its
// stacks. All of d is waited, unless the tree is gone before: nobody can tell when a dump is complete.
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
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "can not be handled by any program"}
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
