package safeexec

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// drain takes what is left in the pipes and sees it delivered, within absolute bounds: a bound that
// moved on with each chunk would never end a chatty process.
//
// A pipe whose writers are gone is read to its end, however slow the caller's Writer is, as long as
// it moves: until the deadline, or one drain timeout from here if that is later. A pipe that
// somebody outside the tree holds is given up: after the linger if the tree is empty, since nothing
// more of the tree's can come, else after the drain timeout; at once if the tree was left. What is in
// it at that moment is still read. Running into a bound proves nothing by itself, so the pipe only
// counts as held if it has a writer left then.
func (r *run) drain() {
	begun := r.mark
	last := begun.Add(r.cfg.drain)
	giveUp := last
	switch {
	case r.left:
		giveUp = begun
	case r.empty:
		giveUp = begun.Add(r.cfg.linger - r.result.Times.Stop)
	}
	if !proctree.Enumerates {
		_ = r.tree.SignalGroup(syscall.SIGKILL) // who is in it can not be told; the leader pins its number
	}
	writers := later(last, r.deadline)
	for {
		now := time.Now()
		if writers.After(last) && now.Before(writers) && r.reason(now) != CauseNone {
			writers = later(last, now.Add(r.cfg.drain)) // canceled or stopped meanwhile
			last = writers
		}
		next := r.settleInput(now, last)
		for fd := 1; fd <= 2; fd++ {
			next = sooner(next, r.settleOutput(fd, now, giveUp, writers))
		}
		if next.IsZero() {
			break
		}
		r.step(next)
	}
	r.nameHolders()
	r.result.Times.Drain = r.lap()
}

// sooner returns the earlier of two times, of which zero ones do not count.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// settleInput ends standard input, and gives the caller's Reader until the given time to return. It
// returns until when to wait, zero if that is over.
func (r *run) settleInput(now, until time.Time) time.Time {
	s := &r.streams[0]
	if s.kind != streamInput || s.finished {
		return time.Time{}
	}
	r.closeStream(s)
	if !s.in.Quit() {
		if now.Before(until) {
			return until
		}
		r.result.Abandoned = append(r.result.Abandoned, AbandonedStdin)
	}
	s.finished = true
	return time.Time{}
}

// settleOutput brings one output to its end. It returns until when to wait, zero if that is over.
func (r *run) settleOutput(fd int, now, giveUp, writers time.Time) time.Time {
	s := &r.streams[fd]
	if !s.kind.isOutput() || s.finished {
		return time.Time{}
	}
	next := r.settlePipe(fd, now, giveUp, writers)
	if !s.end.Open() && s.out.Finish() {
		s.finished = true
		return time.Time{}
	}
	if s.abandoned {
		return next
	}
	// One call of the Writer may take the drain timeout, counted from the end of the tree. A Writer
	// that is in none is about to be called, and is looked at again.
	busy := s.out.Busy()
	stuck := writers
	if !busy.IsZero() {
		stuck = earlier(later(busy, r.mark).Add(r.cfg.drain), writers)
	}
	switch {
	case s.kind == streamCaptured:
		return next
	case now.Before(stuck):
		return sooner(next, earlier(stuck, now.Add(max(r.cfg.drain, lastLook))))
	case busy.IsZero() && s.end.Open():
		return next
	}
	s.abandoned = true
	s.out.Abandon()
	r.result.Abandoned = append(r.result.Abandoned, AbandonedStdout+Abandoned(fd-1))
	return now
}

// settlePipe gives up a pipe that does not end. It returns until when to wait for its end.
func (r *run) settlePipe(fd int, now, giveUp, writers time.Time) time.Time {
	s := &r.streams[fd]
	if !s.end.Open() {
		return time.Time{}
	}
	if !s.final {
		if now.Before(giveUp) {
			return giveUp
		}
		if now.Before(s.nextLook) {
			return s.nextLook
		}
		s.final = true
		s.out.TakeBack()
		s.owed, _ = s.end.Unread()
	}
	if s.owed > 0 {
		if s.blocked && !s.abandoned && now.Before(writers) {
			return writers // the Writer is busy, and says when it is not
		}
		return now
	}
	switch {
	case s.end.Hangup():
		// Nobody can write any more. What was written between the two questions is still read.
		if s.owed, _ = s.end.Unread(); s.owed > 0 {
			return now
		}
	case r.left:
		if !r.leavePipe(fd) {
			return now
		}
		return time.Time{}
	case !r.hold(s):
		if now.Before(r.mark.Add(r.cfg.drain)) {
			s.final = false
			s.look = min(2*max(s.look, firstLook/2), lastLook)
			s.nextLook = now.Add(s.look)
			return s.nextLook
		}
		r.held = true
	}
	r.closeStream(s)
	return time.Time{}
}

// hold names the processes that still have the other end of a pipe, and reports whether there are
// any to stay. A child of another run does not stay: it has a copy of everything between its fork and
// its exec. Nor need anybody be there when nobody is seen: the last descriptor leaves its table a
// moment before the pipe learns of it. So without one to stay the drain timeout decides.
func (r *run) hold(s *stream) bool {
	stays := false
	for _, h := range proctree.Holders(s.end.Inode()) {
		if !h.Starting {
			stays = true
			r.addHolder(info(h.Process), h.FDs)
		}
	}
	r.held = r.held || stays
	if stays {
		r.explainHolders()
	}
	return stays
}

// addHolder adds a process once, whichever of the pipes it holds.
func (r *run) addHolder(p ProcessInfo, fds []int) {
	for i := range r.result.Holders {
		if h := &r.result.Holders[i]; h.same(p) {
			h.FDs = append(h.FDs, fds...)
			return
		}
	}
	r.result.Holders = append(r.result.Holders, Holder{ProcessInfo: p, FDs: fds})
}

// outcome makes the result and the error from what the steps wrote down. It is called once, by
// whoever waits for the command, and sets cmd.ProcessState as Wait of os/exec does.
func (r *run) outcome() error {
	r.release()
	r.cmd.ProcessState = r.state
	r.askCommandContext()
	r.status(r.state)
	r.result.Stdout = r.streams[1].summary()
	r.result.Stderr = r.streams[2].summary()

	errs := r.causeErrors()
	truncated := r.cfg.overflow == OverflowStop && r.overflowed() ||
		r.cfg.complete && r.result.Stdout.Dropped > 0
	if truncated && r.result.Cause != CauseOutputLimit {
		errs = append(errs, ErrOutputLimit)
	}
	if r.result.OOMKilled && (r.state == nil || !r.state.Success()) {
		errs = append(errs, ErrOOMKilled)
	}
	var exit *exec.ExitError
	switch {
	case r.waitErr != nil:
		errs = append(errs, ErrStatusUnknown, r.waitErr)
	case r.state != nil && !r.state.Success():
		exit = &exec.ExitError{ProcessState: r.state, Stderr: abridged(&r.result.Stderr)}
		errs = append(errs, exit)
	}
	if r.held {
		errs = append(errs, ErrPipeHeld)
	}
	errs = append(errs, r.streamErrors()...)
	if len(r.result.Survivors) > 0 {
		errs = append(errs, ErrSurvivors)
	}
	if r.unseen {
		errs = append(errs, ErrTreeUnseen)
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == 1 && exit != nil:
		return exit
	}
	return &Error{Op: "run", Program: r.program(), PID: r.result.PID, Report: r.result.Report, errs: errs}
}

// refuse is the outcome of a run that was not started.
func (r *run) refuse(err error) error {
	if r.result.Cause == CauseNone {
		r.result.Cause = CauseStartFailed
	}
	r.result.Times.Total = time.Since(r.result.Times.Started)
	res := r.result // a copy: the run is not to be kept alive
	return &Error{Op: "start", Program: r.program(), Result: &res, errs: flatten(err)}
}

// causeErrors returns the sentinel of the cause and what the context says of it.
func (r *run) causeErrors() []error {
	var errs []error
	if r.limitErr != nil {
		errs = flatten(r.limitErr)
	}
	switch r.result.Cause {
	case CauseTimeout:
		errs = append(errs, ErrTimeout)
	case CauseCanceled:
		errs = append(errs, ErrCanceled)
	case CauseIdle:
		errs = append(errs, ErrIdle)
	case CauseOutputLimit:
		errs = append(errs, ErrOutputLimit)
	case CauseStopped:
		errs = append(errs, ErrStopped)
	case CauseNone, CauseExited, CauseStartFailed, CauseLimits:
	}
	if r.result.Cause == CauseTimeout || r.result.Cause == CauseCanceled {
		if r.ctxErr != nil {
			errs = append(errs, r.ctxErr)
			if r.ctxCause != r.ctxErr { //nolint:errorlint // the very value
				errs = append(errs, r.ctxCause)
			}
		}
	}
	return errs
}

// keepContextErr keeps what the context says at the time when it is why the run ends: later it may say
// something else. Where its deadline is the reason, its own timer may be a moment behind ours, and is
// waited for, so that context.Cause is told.
func (r *run) keepContextErr() {
	if r.result.Cause != CauseTimeout && r.result.Cause != CauseCanceled {
		return
	}
	if d, ok := r.ctx.Deadline(); ok && r.result.Cause == CauseTimeout && d.Equal(r.deadline) {
		late := time.NewTimer(timerSlack)
		defer late.Stop()
		select {
		case <-r.ctx.Done():
		case <-late.C:
		}
	}
	if r.ctxErr = r.ctx.Err(); r.ctxErr != nil {
		r.ctxCause = context.Cause(r.ctx)
	}
}

// timerSlack is how long a context's own timer is waited for.
const timerSlack = 50 * time.Millisecond

// causeError is why nothing was started.
func (r *run) causeError() error {
	r.keepContextErr()
	return join(r.causeErrors()...)
}

// streamErrors returns what the caller's Reader and Writers did.
func (r *run) streamErrors() []error {
	var errs []error
	for _, stuck := range []struct {
		err  error
		what []Abandoned
	}{
		{ErrWriterStuck, []Abandoned{AbandonedStdout, AbandonedStderr}},
		{ErrReaderStuck, []Abandoned{AbandonedStdin}},
	} {
		if slices.ContainsFunc(r.result.Abandoned, func(a Abandoned) bool { return slices.Contains(stuck.what, a) }) {
			errs = append(errs, stuck.err)
		}
	}
	for i := range r.streams {
		s := &r.streams[i]
		if s.kind == streamInput && s.in.Err() != nil {
			errs = append(errs, fmt.Errorf("standard input: %w", s.in.Err()))
		}
		if s.kind.isOutput() && s.out.Err() != nil {
			errs = append(errs, fmt.Errorf("%s: %w", [...]string{1: "standard output", 2: "standard error"}[i], s.out.Err()))
		}
	}
	return errs
}

// summary is what the result says of a stream.
func (s *stream) summary() Stream {
	if !s.kind.isOutput() {
		return Stream{}
	}
	o := Stream{Total: s.out.Total(), Dropped: s.out.Dropped()}
	if s.kind == streamCaptured {
		head, tail := s.keep.Kept()
		o.data, o.head = s.keep.Bytes(), len(head)
		o.Dropped += s.keep.Total() - int64(len(head)+len(tail))
	}
	return o
}

// stderrPart is how much of each end of the standard error an *exec.ExitError gets from os/exec.
const stderrPart = 32 << 10

// abridged returns what os/exec puts into ExitError.Stderr: all of it, or its two ends and a line that
// says how much is missing.
func abridged(o *Stream) []byte {
	if o.Dropped == 0 && len(o.data) <= 2*stderrPart {
		return o.data
	}
	head, tail := o.data[:o.head], o.data[o.head:]
	if o.Dropped == 0 {
		head, tail = o.data[:stderrPart], o.data[stderrPart:]
	}
	head = head[:min(len(head), stderrPart)]
	tail = tail[max(0, len(tail)-stderrPart):]
	omitted := o.Total - int64(len(head)+len(tail))
	return fmt.Appendf(append([]byte(nil), head...), "\n... omitting %d bytes ...\n%s", omitted, tail)
}

// join is errors.Join of one or more errors, flat.
func join(errs ...error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return &several{errs}
}

type several struct{ errs []error }

func (s *several) Error() string   { return (&Error{Op: "run", errs: s.errs}).Error() }
func (s *several) Unwrap() []error { return s.errs }

func flatten(err error) []error {
	if s, ok := err.(*several); ok { //nolint:errorlint // our own, not wrapped
		var flat []error
		for _, e := range s.errs {
			flat = append(flat, flatten(e)...)
		}
		return flat
	}
	return []error{err}
}
