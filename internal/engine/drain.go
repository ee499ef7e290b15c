package engine

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/discard"
	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A drainer reads what is left in the pipes.
type drainer struct {
	*Run
	looked  time.Time // the round in which the holders of the pipes were looked for last
	holders []proctree.Holder
}

// drain reads what is left in the pipes and waits until it is delivered, within absolute bounds: a bound that moved on
// with each chunk would never end a chatty process.
//
// A pipe without a writer is read to its end, however slow the caller's Writer is, while that moves: until the
// deadline, or for one drain timeout if that is later. A pipe that a process outside the tree has is given up: after
// the linger if the tree is empty, since it cannot write any more; at once if the tree was left; else after the drain
// timeout. What is in the pipe at that moment is still read. To run into a bound proves nothing, so the pipe counts as
// held only if it still has a writer then.
func (r *drainer) drain() {
	r.Streams.ReleasePTY()
	begun := r.mark
	last := begun.Add(r.cfg.Drain)
	giveUp := last
	switch {
	case r.left:
		giveUp = begun
	case r.Empty:
		giveUp = begun.Add(r.cfg.Linger - r.Facts.Times.Stop)
	}
	if !proctree.Enumerates && r.actor == nil {
		_ = r.Tree.SignalGroup(syscall.SIGKILL) // its members are unknown; the leader pins its number
	}
	writers := ladder.Later(last, r.deadline)
	for {
		now := time.Now()
		if writers.After(last) && now.Before(writers) && r.reason(now) != CauseNone {
			writers = ladder.Later(last, now.Add(r.cfg.Drain)) // canceled or stopped since
			last = writers
		}
		next := r.settleInput(now, last)
		for fd := 1; fd <= 2; fd++ {
			next = ladder.Sooner(next, r.settleOutput(fd, now, giveUp, writers))
		}
		if next.IsZero() {
			break
		}
		r.Step(next)
	}
	r.Facts.Times.Drain = r.lap()
}

// settleInput ends standard input, and gives the caller's Reader until the given time to return. It returns until when
// to wait, zero if there is nothing to wait for.
func (r *drainer) settleInput(now, until time.Time) time.Time {
	s := &r.Streams.Each[0]
	if s.Kind != stdio.StreamInput || s.Finished {
		return time.Time{}
	}
	r.Streams.Close(s)
	quit, held := s.In.Quit(), s.End.Held()
	if (!quit || held) && now.Before(until) {
		return until
	}
	switch {
	case held:
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedPipe)
	case !quit:
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedStdin)
	}
	s.Finished = true
	return time.Time{}
}

// settleOutput brings one output to its end. It returns until when to wait, zero if there is nothing to wait for.
func (r *drainer) settleOutput(fd int, now, giveUp, writers time.Time) time.Time {
	s := &r.Streams.Each[fd]
	if !s.Kind.IsOutput() || s.Finished {
		return time.Time{}
	}
	if s.Held() {
		// The call wakes the poller when it returns.
		if last := s.HeldUntil(r.mark.Add(r.cfg.Drain), now); now.Before(last) {
			return last
		}
		if !r.left || s.End.Hangup() { // without a writer there is nothing to leave
			r.abandonPipe(fd, now)
			return time.Time{}
		}
		s.Owed = 0
	} else {
		s.NotHeld()
	}
	next := r.settlePipe(fd, now, giveUp, writers)
	if !s.End.Open() && s.Out.Finish() {
		s.Finished = true
		return time.Time{}
	}
	if s.Abandoned {
		return next
	}
	// One call of the Writer may take the drain timeout, counted from the end of the tree at the earliest. A Writer
	// between two calls is looked at again.
	busy := s.Out.Busy()
	stuck := writers
	if !busy.IsZero() {
		stuck = ladder.Earlier(ladder.Later(busy, r.mark).Add(r.cfg.Drain), writers)
	}
	switch {
	case s.Kind == stdio.StreamCaptured:
		return next
	case now.Before(stuck):
		return ladder.Sooner(next, ladder.Earlier(stuck, now.Add(max(r.cfg.Drain, ladder.LastLook))))
	case busy.IsZero() && s.End.Open():
		return next
	}
	s.Abandoned = true
	s.Out.Abandon()
	r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedStdout+Abandoned(fd-1))
	return now
}

// settlePipe gives up a pipe that does not end. It returns until when to wait for that.
func (r *drainer) settlePipe(fd int, now, giveUp, writers time.Time) time.Time {
	s := &r.Streams.Each[fd]
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
		if last := r.mark.Add(r.cfg.Drain); errors.Is(err, stdio.ErrHeld) && (!r.left || now.Before(last)) {
			return last // the call wakes the poller when it returns
		}
		s.Final, s.Owed = true, owed
	}
	if s.Owed > 0 && !s.Blocked && !s.End.Counts() && !s.End.Readable() {
		s.Owed = 0
	}
	if s.Owed > 0 {
		if s.Blocked && !s.Abandoned && now.Before(writers) {
			return writers // the Writer wakes the poller when it returns
		}
		return now
	}
	switch {
	case s.End.Hangup():
		// No writer is left. What was written since the last look is still read.
		owed, err := s.End.Unread()
		if errors.Is(err, stdio.ErrHeld) {
			return r.mark.Add(r.cfg.Drain)
		}
		if s.Owed = owed; owed > 0 {
			return now
		}
	case !r.Streams.ChildEnds.Done() && now.Before(r.mark.Add(r.cfg.Drain)):
		s.Final = false // this process still has the other end
		return r.mark.Add(r.cfg.Drain)
	case r.left:
		if !r.leavePipe(fd, now) {
			return now
		}
		return time.Time{}
	case !r.findHolders(fd, now):
		if now.Before(r.mark.Add(r.cfg.Drain)) || s.Look < ladder.LastLook/4 { // looks count too: see findHolders
			s.Final = false
			s.Look = min(2*max(s.Look, ladder.FirstLook/2), ladder.LastLook)
			s.NextLook = now.Add(s.Look)
			return s.NextLook
		}
		r.Facts.Held[fd] = true
	}
	r.Streams.Close(s)
	return time.Time{}
}

// abandonPipe gives up a pipe that a process holds, and the call on it. The descriptor is closed once that returns.
func (r *drainer) abandonPipe(fd int, now time.Time) {
	s := &r.Streams.Each[fd]
	r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedPipe)
	r.Facts.Held[fd] = true
	if s.End.Open() {
		r.findHolders(fd, now)
	}
	s.Out.Abandon()
	r.Streams.Close(s)
	s.Abandoned, s.Finished, s.Lost = true, true, true
}

// leavePipe passes on a pipe that has a writer, and names the holders outside the tree that it can see. It looks for
// the holders before it looks at the tree, or a member born in between would pass for a stranger. It reports false if
// the pipe has lost its writers since: a child on its way to its own redirections has the pipe for a moment.
func (r *drainer) leavePipe(fd int, now time.Time) bool {
	s := &r.Streams.Each[fd]
	holders := r.holdersOf(fd, now)
	if s.End.Hangup() {
		return false
	}
	reaper{r.Run}.listLeft()
	elsewhere := true
	for _, h := range holders {
		id := ladder.Identity(h.Process)
		switch {
		case slices.ContainsFunc(r.Facts.Left, func(p proctree.Process) bool { return ladder.Identity(p) == id }):
			elsewhere = false
		case !h.Starting && h.Alive():
			r.addHolder(h.Process, h.FDs)
		}
	}
	r.Streams.Unwatch(s)
	if s.Lost = s.Held(); s.Lost {
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedPipe)
		s.Abandoned = true
		s.Out.Abandon() // what the late call reads reaches no Writer
	}
	p := leftPipes.Take(&s.End, discard.Origin{
		PID: r.Facts.PID, Program: r.Facts.Program, FD: fd, HeldElsewhere: elsewhere, Since: time.Now(),
	})
	r.places--
	r.Facts.LeftPipes = append(r.Facts.LeftPipes, p)
	return true
}

// findHolders names the processes that still have the other end of a pipe, and reports whether one of them will keep
// it. A child of another run has a copy of everything between its fork and its exec, and keeps nothing. Finding no
// holder proves nothing: a descriptor leaves its table shortly before the pipe is released, and there may be no time to
// look at every process. So the drain timeout decides where no holder is found, and five looks: a machine that stood
// still has used up the time without one.
func (r *drainer) findHolders(fd int, now time.Time) bool {
	stays := false
	for _, h := range r.holdersOf(fd, now) {
		if !h.Starting {
			stays = true
			r.addHolder(h.Process, h.FDs)
		}
	}
	r.Facts.Held[fd] = r.Facts.Held[fd] || stays
	if stays {
		reporter{r.Run}.explainHolders()
	}
	return stays
}

// holdersOf returns the holders of one pipe. One look serves all pipes that are given up in a round.
func (r *drainer) holdersOf(fd int, now time.Time) []proctree.Holder {
	if !r.looked.Equal(now) {
		r.looked = now
		var complete bool
		r.holders, complete = proctree.Holders(time.Now().Add(HolderBound), r.Facts.PID, r.Streams.OutputPipes()...)
		r.Facts.HoldersPartial = !complete
	}
	var of []proctree.Holder
	for _, h := range r.holders {
		if h.Inode == r.Streams.Each[fd].End.Inode() {
			of = append(of, h)
		}
	}
	return of
}

// addHolder adds a process once, whichever pipes it holds. It may have executed another program in between.
func (r *drainer) addHolder(p proctree.Process, fds []int) {
	for i := range r.Facts.Holders {
		if h := &r.Facts.Holders[i]; ladder.Identity(h.Process) == ladder.Identity(p) {
			h.FDs = append(h.FDs, fds...)
			return
		}
	}
	r.Facts.Holders = append(r.Facts.Holders, Holder{Process: p, FDs: fds})
}
