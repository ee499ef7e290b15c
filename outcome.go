package safeexec

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
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
	case r.Empty:
		giveUp = begun.Add(r.cfg.linger - r.result.Times.Stop)
	}
	if !proctree.Enumerates && r.actor == nil {
		_ = r.Tree.SignalGroup(syscall.SIGKILL) // who is in it can not be told; the leader pins its number
	}
	writers := engine.Later(last, r.deadline)
	for {
		now := time.Now()
		if writers.After(last) && now.Before(writers) && r.reason(now) != CauseNone {
			writers = engine.Later(last, now.Add(r.cfg.drain)) // canceled or stopped meanwhile
			last = writers
		}
		next := r.settleInput(now, last)
		for fd := 1; fd <= 2; fd++ {
			next = engine.Sooner(next, r.settleOutput(fd, now, giveUp, writers))
		}
		if next.IsZero() {
			break
		}
		r.Step(next)
	}
	r.nameHolders()
	r.result.Times.Drain = r.lap()
}

// settleInput ends standard input, and gives the caller's Reader until the given time to return. It
// returns until when to wait, zero if that is over.
func (r *run) settleInput(now, until time.Time) time.Time {
	s := &r.streams.Each[0]
	if s.Kind != engine.StreamInput || s.Finished {
		return time.Time{}
	}
	r.streams.Close(s)
	quit, held := s.In.Quit(), s.End.Held()
	if (!quit || held) && now.Before(until) {
		return until
	}
	switch {
	case held:
		r.result.Abandoned = append(r.result.Abandoned, AbandonedPipe)
	case !quit:
		r.result.Abandoned = append(r.result.Abandoned, AbandonedStdin)
	}
	s.Finished = true
	return time.Time{}
}

// settleOutput brings one output to its end. It returns until when to wait, zero if that is over.
func (r *run) settleOutput(fd int, now, giveUp, writers time.Time) time.Time {
	s := &r.streams.Each[fd]
	if !s.Kind.IsOutput() || s.Finished {
		return time.Time{}
	}
	if s.End.Held() {
		// Whoever makes it go on wakes the poller. On a busy machine it may be our own call that is late.
		if last := r.mark.Add(r.cfg.drain); now.Before(last) {
			return last
		}
	}
	if s.End.Held() && !r.left {
		r.abandonPipe(fd, now)
		return time.Time{}
	}
	next := r.settlePipe(fd, now, giveUp, writers)
	if !s.End.Open() && s.Out.Finish() {
		s.Finished = true
		return time.Time{}
	}
	if s.Abandoned {
		return next
	}
	// One call of the Writer may take the drain timeout, counted from the end of the tree. A Writer
	// that is in none is about to be called, and is looked at again.
	busy := s.Out.Busy()
	stuck := writers
	if !busy.IsZero() {
		stuck = engine.Earlier(engine.Later(busy, r.mark).Add(r.cfg.drain), writers)
	}
	switch {
	case s.Kind == engine.StreamCaptured:
		return next
	case now.Before(stuck):
		return engine.Sooner(next, engine.Earlier(stuck, now.Add(max(r.cfg.drain, engine.LastLook))))
	case busy.IsZero() && s.End.Open():
		return next
	}
	s.Abandoned = true
	s.Out.Abandon()
	r.result.Abandoned = append(r.result.Abandoned, AbandonedStdout+Abandoned(fd-1))
	return now
}

// abandonPipe leaves a pipe that a process holds, and the call on it. The descriptor is closed once that returns.
func (r *run) abandonPipe(fd int, now time.Time) {
	s := &r.streams.Each[fd]
	r.result.Abandoned = append(r.result.Abandoned, AbandonedPipe)
	r.held[fd] = true
	if s.End.Open() {
		r.hold(fd, now)
	}
	s.Out.Abandon()
	r.streams.Close(s)
	s.Abandoned, s.Finished, s.Lost = true, true, true
}

// settlePipe gives up a pipe that does not end. It returns until when to wait for its end.
func (r *run) settlePipe(fd int, now, giveUp, writers time.Time) time.Time {
	s := &r.streams.Each[fd]
	if !s.End.Open() {
		return time.Time{}
	}
	if !s.Final {
		if now.Before(giveUp) {
			return giveUp
		}
		if now.Before(s.NextLook) {
			return s.NextLook
		}
		s.Out.TakeBack()
		owed, err := s.End.Unread()
		if last := r.mark.Add(r.cfg.drain); errors.Is(err, engine.ErrHeld) && (!r.left || now.Before(last)) {
			return last // asked anew when it is told
		}
		s.Final, s.Owed = true, owed
	}
	if s.Owed > 0 {
		if s.Blocked && !s.Abandoned && now.Before(writers) {
			return writers // the Writer is busy, and says when it is not
		}
		return now
	}
	switch {
	case s.End.Hangup():
		// Nobody can write any more. What was written between the two questions is still read.
		owed, err := s.End.Unread()
		if errors.Is(err, engine.ErrHeld) {
			return r.mark.Add(r.cfg.drain)
		}
		if s.Owed = owed; owed > 0 {
			return now
		}
	case !r.streams.ChildEnds.Done() && now.Before(r.mark.Add(r.cfg.drain)):
		s.Final = false // it is this process that still has the other end
		return r.mark.Add(r.cfg.drain)
	case r.left:
		if !r.leavePipe(fd, now) {
			return now
		}
		return time.Time{}
	case !r.hold(fd, now):
		if now.Before(r.mark.Add(r.cfg.drain)) {
			s.Final = false
			s.Look = min(2*max(s.Look, engine.FirstLook/2), engine.LastLook)
			s.NextLook = now.Add(s.Look)
			return s.NextLook
		}
		r.held[fd] = true
	}
	r.streams.Close(s)
	return time.Time{}
}

// hold names the processes that still have the other end of a pipe, and reports whether there are
// any to stay. A child of another run does not stay: it has a copy of everything between its fork and
// its exec. Finding no holder proves nothing: a descriptor leaves its table shortly before the pipe is
// released, and there may be no time to look at every process. So without one that stays the drain
// timeout decides.
func (r *run) hold(fd int, now time.Time) bool {
	stays := false
	for _, h := range r.holdersOf(fd, now) {
		if !h.Starting {
			stays = true
			r.addHolder(info(h.Process), h.FDs)
		}
	}
	r.held[fd] = r.held[fd] || stays
	if stays {
		r.explainHolders()
	}
	return stays
}

// holderBound is how long a look for the holders of the pipes takes at most.
const holderBound = 100 * time.Millisecond

// A holderLook is one look for the holders of all output pipes.
type holderLook struct {
	at    time.Time // of the round of drain that made it; the next round looks anew
	found []proctree.Holder
}

// holdersOf returns the holders of one pipe. One look serves all pipes that are given up in a round.
func (r *run) holdersOf(fd int, now time.Time) []proctree.Holder {
	if r.holders == nil || !r.holders.at.Equal(now) {
		r.holders = &holderLook{at: now}
		var complete bool
		r.holders.found, complete = proctree.Holders(time.Now().Add(holderBound), r.result.PID, r.streams.OutputPipes()...)
		r.result.HoldersPartial = !complete
	}
	var of []proctree.Holder
	for _, h := range r.holders.found {
		if h.Inode == r.streams.Each[fd].End.Inode() {
			of = append(of, h)
		}
	}
	return of
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
	r.result.Stdout = streamOf(r.streams.Each[1].Summary())
	r.result.Stderr = streamOf(r.streams.Each[2].Summary())

	errs := r.causeErrors()
	truncated := r.cfg.overflow == OverflowStop && r.streams.Overflowed() ||
		r.cfg.complete && r.result.Stdout.Dropped > 0
	if truncated && r.result.Cause != CauseOutputLimit {
		errs = append(errs, r.outputLimitError())
	}
	if r.result.OOMKilled && (r.state == nil || !r.state.Success()) {
		errs = append(errs, r.oomError())
	}
	var exit *exec.ExitError
	switch {
	case r.waitErr != nil:
		errs = append(errs, ErrStatusUnknown, r.waitErr)
	case r.state != nil && !r.state.Success():
		exit = &exec.ExitError{ProcessState: r.state, Stderr: abridged(&r.result.Stderr)}
		errs = append(errs, exit)
	}
	if r.held != [3]bool{} {
		errs = append(errs, r.heldError())
	}
	errs = append(errs, r.streamErrors()...)
	if len(r.result.Survivors) > 0 {
		errs = append(errs, survivorsError(r.result.Survivors, r.cfg.kill))
	}
	if r.Unseen {
		errs = append(errs, ErrTreeUnseen)
	}
	if r.redactErr != nil && len(errs) > 0 { // alone it is no failure of the command
		errs = append(errs, r.redactErr)
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
	r.redact()
	r.result.Times.Total = time.Since(r.result.Times.Started)
	res := r.result // a copy: the run is not to be kept alive
	return &Error{Op: "start", Program: r.program(), Result: &res, errs: flatten(err)}
}

// streamOf is what the result says of a stream.
func streamOf(k engine.Kept) Stream {
	return Stream{Total: k.Total, Dropped: k.Dropped, Err: k.Err, data: k.Data, head: k.Head}
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
