package safeexec

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/diagnose"
	"github.com/seed841d8200/safeexec/internal/discard"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/proctree"
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

func (o backgroundOption) apply(c *config) { c.background = Background(o) }

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
	case c.background < BackgroundKill || c.background > BackgroundLeave:
		return &ConfigError{Name: "WithBackground", Reason: "is no known policy"}
	case c.background != BackgroundKill && !proctree.Enumerates:
		return join(ErrUnsupported, &ConfigError{Name: "WithBackground", Reason: "needs Linux"})
	}
	return nil
}

// background does with the processes that the leader left behind what the policy says. It may change
// the cause: then they are ended for it. A command that was to have limits, and has not got them, leaves
// nobody.
func (r *run) background() {
	switch {
	case r.cfg.background == BackgroundWait:
		r.waits()
	case r.cfg.background == BackgroundLeave && r.limitErr == nil:
		r.leaves()
	default:
		r.lingers()
	}
}

// lingers gives them a moment to end by themselves. The deadline, cancellation and Stop cut it short,
// and leave the cause what it is: the command exited.
func (r *run) lingers() {
	r.AwaitEmpty(engine.Earlier(r.mark.Add(r.cfg.linger), r.deadline), 0)
	if r.Empty {
		r.result.Times.Stop = r.lap()
	}
}

// waits goes on with the run until a look at the tree finds nobody or there is a reason to end it. As
// in observe the look comes last: a tree that made it is not reported as timed out.
func (r *run) waits() {
	r.exitSeen.Store(true) // a signal to the zombie would be none to the command
	begun := r.mark
	for {
		reason := r.reason(time.Now())
		r.Tree.Until(r.nextBound())
		members, sure := r.Tree.Live()
		r.Unseen = !sure
		r.Empty = sure && len(members) == 0
		if r.Empty {
			r.newTimeout.Store(timeoutSettled)
			break
		}
		if reason != CauseNone && r.settle(reason) {
			r.result.Cause = reason
			r.noteCause()
			break
		}
		r.WatchMembers(members)
		r.awaitDeaths(waitLook(time.Since(begun)))
	}
	r.result.Times.Run += r.lap()
}

// waitLook returns when to look at processes that do not tell of their death: after a sixteenth of the
// time that they have been waited for.
func waitLook(waited time.Duration) time.Time {
	return time.Now().Add(min(max(waited/16, engine.FirstLook), time.Second))
}

// awaitDeaths moves bytes until all members that are watched have died, or, where none is, until the
// given time. While one that is watched lives the tree is not empty, so that the others need no look.
func (r *run) awaitDeaths(look time.Time) {
	watching := !r.Blind && r.Watched() > 0
	for {
		now := time.Now()
		if r.reason(now) != CauseNone {
			return
		}
		until := r.nextBound()
		switch {
		case watching && r.Watched() == 0:
			return
		case !watching && !now.Before(look):
			return
		case !watching:
			until = engine.Earlier(until, look)
		}
		r.Step(until)
		watching = watching && !r.Blind
	}
}

// askOldest asks about what the leader left: it has nothing to say itself.
func askOldest(target *diagnose.Target, members []*proctree.Member) {
	oldest := slices.MinFunc(members, func(a, b *proctree.Member) int { return cmp.Compare(a.Start, b.Start) })
	target.PID, target.Child = oldest.PID, false
	target.Members = slices.DeleteFunc(target.Members, func(pid int) bool { return pid == oldest.PID })
}

// leftPipes discards what the processes write that runs have left.
var leftPipes = discard.New(MaxLeftPipes)

// reserveLeft takes the places that the pipes of this run may need, before the command is started: a
// command whose pipes found none could only be killed.
func (r *run) reserveLeft() error {
	if r.cfg.background != BackgroundLeave {
		return nil
	}
	n := 0
	for i := range r.streams.Each {
		if r.streams.Each[i].Kind.IsOutput() {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	ok, err := leftPipes.Reserve(n)
	switch {
	case err != nil:
		return join(ErrTooManyLeft, err)
	case !ok:
		return ErrTooManyLeft
	}
	r.leftPlaces = n
	return nil
}

// freeLeft gives back the places that were not needed.
func (r *run) freeLeft() {
	if r.leftPlaces > 0 {
		leftPipes.Free(r.leftPlaces)
		r.leftPlaces = 0
	}
}

// leaves lets the tree live on.
func (r *run) leaves() {
	r.left = true
}

// listLeft records which processes of the tree are alive, at the end once more: those that run ended
// earlier may be dead by then, and others born.
func (r *run) listLeft() {
	r.Tree.Until(r.mark.Add(r.cfg.drain))
	members, sure := r.Tree.Live()
	r.Unseen = !sure
	r.result.Left = r.result.Left[:0]
	for _, m := range members {
		r.result.Left = append(r.result.Left, info(engine.Named(m.Process)))
	}
	slices.SortFunc(r.result.Left, func(a, b ProcessInfo) int { return cmp.Compare(a.PID, b.PID) })
}

// leavePipe passes on a pipe that has a writer. Who that is, if nobody of the tree, is named as far as
// can be seen. The tree is looked at after its holders: one born in between would pass for a stranger.
// It reports false if the pipe has lost its writers meanwhile, as that of a child which was on its way
// to its own redirections.
func (r *run) leavePipe(fd int, now time.Time) bool {
	s := &r.streams.Each[fd]
	holders := r.holdersOf(fd, now)
	if s.End.Hangup() {
		return false
	}
	r.listLeft()
	elsewhere := true
	for _, h := range holders {
		who := info(h.Process)
		switch {
		case slices.ContainsFunc(r.result.Left, who.same):
			elsewhere = false
		case !h.Starting && h.Alive():
			r.addHolder(who, h.FDs)
		}
	}
	r.streams.Unwatch(s)
	if s.Lost = s.End.Held() || s.Out.Reading(); s.Lost {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedPipe)
		s.Abandoned = true
		s.Out.Abandon() // what a call brings that comes back later reaches no Writer
	}
	p := leftPipes.Take(&s.End, discard.Origin{
		PID: r.result.PID, Program: r.program(), FD: fd, HeldElsewhere: elsewhere, Since: time.Now(),
	})
	r.leftPlaces--
	r.result.LeftPipes = append(r.result.LeftPipes, newLeftPipe(p))
	return true
}
