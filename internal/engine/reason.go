package engine

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
)

// reason returns why the run must end now, CauseNone if it need not.
func (r *Run) reason(now time.Time) Cause {
	r.takeTimeout()
	if r.cfg.Idle > 0 {
		r.Streams.NoteDrawn()
	}
	if cause := r.actor.cause(); cause != CauseNone {
		return cause
	}
	switch err := r.ctx.Err(); {
	case r.stopRequested.Load():
		return CauseStopped
	case r.Facts.LimitErr != nil:
		return CauseLimits
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		return CauseCanceled
	case err != nil, !now.Before(r.deadline):
		return CauseTimeout
	case r.cmdCanceled.Load():
		return CauseCanceled
	case r.cfg.OverflowStops && r.Streams.Overflowed():
		return CauseOutputLimit
	case r.cfg.StopOnWriteError && r.Streams.WriterFailed():
		return CauseWriterFailed
	case r.cfg.Idle > 0 && r.Facts.PID != 0 && !now.Before(r.Streams.LastOutput.Add(r.cfg.Idle)):
		if !r.Streams.WriterBusy() {
			return CauseIdle
		}
		r.Streams.LastOutput = now // it is the caller's Writer that holds the command up
	}
	return CauseNone
}

// nextBound returns when to call reason again at the latest.
func (r *Run) nextBound() time.Time {
	bound := r.deadline
	if r.cfg.Idle > 0 && r.Facts.PID != 0 {
		bound = ladder.Earlier(bound, r.Streams.LastOutput.Add(r.cfg.Idle))
	}
	return bound
}

func (r *Run) setDeadline(now time.Time) {
	if r.cfg.Timeout > 0 {
		r.deadline = now.Add(r.cfg.Timeout)
	}
	if d, ok := r.ctx.Deadline(); ok && (r.deadline.IsZero() || d.Before(r.deadline)) {
		r.deadline = d
	}
}

// takeTimeout brings the deadline up to date.
func (r *Run) takeTimeout() {
	if t := r.newTimeout.Load(); t > 0 && t != r.timeoutSeen {
		r.timeoutSeen = t
		r.cfg.Timeout = time.Duration(t)
		r.setDeadline(r.Facts.Started)
	}
}

// settle makes SetTimeout too late, since the run is about to end for cause. It reports false if a timeout was set that
// the run has not seen, and may go on for.
func (r *Run) settle(cause Cause) bool {
	switch {
	case cause == CauseTimeout:
		return r.newTimeout.CompareAndSwap(r.timeoutSeen, timeoutSettled)
	case cause != CauseExited || r.cfg.Background != BackgroundWait:
		r.newTimeout.Store(timeoutSettled)
	}
	return true
}

// forced reports whether there is no grace period, or no more of it.
func (r *Run) forced() bool {
	return r.killRequested.Load() ||
		slices.ContainsFunc(r.cfg.Forces, func(ctx context.Context) bool { return ctx.Err() != nil })
}

// CutShort ends the waits after a signal that the tree can handle, and the linger, which is the wait without a signal.
// Silence is no reason: what lingers may have nothing to say.
func (r *Run) CutShort(rung syscall.Signal) bool {
	switch rung {
	case syscall.SIGKILL:
		return false
	case 0:
		reason := r.reason(time.Now())
		return reason != CauseNone && reason != CauseIdle
	}
	return r.forced()
}

// stuck reports whether the command may be stuck: not if it writes too much, or to a Writer that has failed.
func (r *Run) stuck() bool {
	return r.Facts.Cause != CauseOutputLimit && r.Facts.Cause != CauseWriterFailed
}

// noteCause records the facts of the moment at which the run is about to end: later the context may return another
// error, and output may have moved.
func (r *Run) noteCause() {
	now := time.Now()
	r.Facts.After = now.Sub(r.Facts.Started)
	r.Facts.Silent = now.Sub(r.Streams.LastOutput)
	if r.Facts.Cause != CauseTimeout && r.Facts.Cause != CauseCanceled {
		return
	}
	if r.Facts.CtxErr = r.ctx.Err(); r.Facts.CtxErr != nil {
		r.Facts.CtxCause = context.Cause(r.ctx)
		return
	}
	d, ok := r.ctx.Deadline()
	r.byContext = ok && r.Facts.Cause == CauseTimeout && d.Equal(r.deadline)
}
