package safeexec

import (
	"context"
	"errors"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// reason returns why the run must end now, CauseNone if it need not.
func (r *run) reason(now time.Time) Cause {
	r.takeTimeout()
	if r.cfg.idle > 0 {
		r.streams.NoteDrawn()
	}
	if cause := r.actor.cause(); cause != CauseNone {
		return cause
	}
	switch err := r.ctx.Err(); {
	case r.stopRequested.Load():
		return CauseStopped
	case r.limitErr != nil:
		return CauseLimits
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		return CauseCanceled
	case err != nil, !now.Before(r.deadline):
		return CauseTimeout
	case r.cmdCanceled.Load():
		return CauseCanceled
	case r.cfg.overflow == OverflowStop && r.streams.Overflowed():
		return CauseOutputLimit
	case r.cfg.stopOnWriteError && r.streams.WriterFailed():
		return CauseWriterFailed
	case r.cfg.idle > 0 && r.result.PID != 0 && !now.Before(r.streams.LastOutput.Add(r.cfg.idle)):
		if !r.streams.WriterBusy() {
			return CauseIdle
		}
		r.streams.LastOutput = now // it is the caller's Writer that holds the command up
	}
	return CauseNone
}

// nextBound returns when reason has to be asked again at the latest.
func (r *run) nextBound() time.Time {
	bound := r.deadline
	if r.cfg.idle > 0 && r.result.PID != 0 {
		bound = engine.Earlier(bound, r.streams.LastOutput.Add(r.cfg.idle))
	}
	return bound
}
