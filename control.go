package safeexec

import (
	"context"
	"os"
	"slices"
	"syscall"
	"time"
)

// Kill ends the run without a grace period: SIGKILL goes to the whole tree. It is [Process.Stop] with nothing before
// SIGKILL, neither a [Report] nor [WithDiagnosticSignal] nor [WithTermSignal], and cuts short what a timeout,
// cancellation or Stop has begun, which remains the cause then. It returns at once, so that a Writer or a callback
// of the run may call it; [Process.Wait] waits for the end. It changes nothing about a run that has ended.
func (p *Process) Kill() {
	p.run.killRequested.Store(true)
	p.run.stopRequested.Store(true)
	p.run.Poller.Wake()
}

type forceOption struct{ ctx context.Context }

func (o forceOption) apply(c *config) { c.forces = append(slices.Clip(c.forces), o.ctx) }

// WithForce ends the grace period when ctx is done: a tree that was asked to end is killed. It ends no run by itself.
// A run that comes to its end later has no grace period, and neither a [Report] nor [WithDiagnosticSignal].
//
// It is for a second request, as of a user who presses Ctrl-C again; [NotifyContext] brings its own. Each WithForce
// adds a context.
func WithForce(ctx context.Context) Option { return forceOption{ctx} }

func (c *config) checkForce() error {
	if slices.Contains(c.forces, nil) {
		return &ConfigError{Name: "WithForce", Reason: "is nil"}
	}
	return nil
}

// watchForce has the run told when its grace period is over.
func (r *run) watchForce() {
	for _, ctx := range r.cfg.forces {
		r.unforce = append(r.unforce, context.AfterFunc(ctx, r.Wake))
	}
}

// forced reports whether there is no grace period, or no more of it.
func (r *run) forced() bool {
	return r.killRequested.Load() ||
		slices.ContainsFunc(r.cfg.forces, func(ctx context.Context) bool { return ctx.Err() != nil })
}

// CutShort reports whether a wait has to end: for what the tree does after a signal that it can handle, or a
// linger, which is the wait without a signal. Silence is no reason: what lingers may have nothing to say.
func (r *run) CutShort(rung syscall.Signal) bool {
	switch rung {
	case syscall.SIGKILL:
		return false
	case 0:
		reason := r.reason(time.Now())
		return reason != CauseNone && reason != CauseIdle
	}
	return r.forced()
}

// timeoutSettled says that the timeout can not be set any more.
const timeoutSettled = -1

// SetTimeout gives a run that is under way d from now on, more or less than it had. It replaces [WithTimeout]; a
// deadline of the context stands. With [WithBackground] it counts for what is waited for as well.
//
// The error is a [*ConfigError] if d is not positive, and [os.ErrProcessDone] if the command has exited or is being
// ended: then nothing is changed. Otherwise the old timeout can not end the run any more.
func (p *Process) SetTimeout(d time.Duration) error {
	if d <= 0 {
		return &ConfigError{Name: "SetTimeout", Reason: "must be positive"}
	}
	r := p.run
	until := int64(sum(time.Since(r.result.Times.Started), d))
	for {
		old := r.newTimeout.Load()
		if old == timeoutSettled {
			return os.ErrProcessDone
		}
		if r.newTimeout.CompareAndSwap(old, until) {
			r.Poller.Wake()
			return nil
		}
	}
}

// takeTimeout brings the deadline up to date.
func (r *run) takeTimeout() {
	if t := r.newTimeout.Load(); t > 0 && t != r.timeoutSeen {
		r.timeoutSeen = t
		r.cfg.timeout = time.Duration(t)
		r.setDeadline(r.result.Times.Started)
	}
}

// settle ends the time in which SetTimeout counts, since the run is to end. It reports false if a timeout was set
// that the run has not seen: it may be a reason to go on.
func (r *run) settle(cause Cause) bool {
	switch {
	case cause == CauseTimeout:
		return r.newTimeout.CompareAndSwap(r.timeoutSeen, timeoutSettled)
	case cause != CauseExited || r.cfg.background != BackgroundWait:
		r.newTimeout.Store(timeoutSettled)
	}
	return true
}
