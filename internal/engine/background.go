package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A background is the time after the exit of the leader, which may have left processes behind.
type background struct{ *Run }

// treat does with the processes that the leader left behind what the policy says. It may change
// the cause: then they are ended for it. A command that should have limits, and did not get them, leaves
// none.
func (r background) treat() {
	switch {
	case r.actor != nil:
		r.Empty = true // a fake command leaves nothing
	case r.cfg.Background == BackgroundWait:
		r.waits()
	case r.cfg.Background == BackgroundLeave && r.Facts.LimitErr == nil:
		r.left = true // it lives on
	default:
		r.lingers()
	}
}

// lingers gives them a moment to end by themselves. The deadline, cancellation and Stop cut it short,
// and leave the cause what it is: the command exited.
func (r background) lingers() {
	r.AwaitEmpty(ladder.Earlier(r.mark.Add(r.cfg.Linger), r.deadline), 0)
	if r.Empty {
		r.Facts.Times.Stop = r.lap()
	}
}

// waits goes on with the run until a look finds the tree empty or there is a reason to end it. As in
// observe the look comes last: a tree that ended in time is not reported as timed out.
func (r background) waits() {
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
			r.Facts.Cause = reason
			r.noteCause()
			break
		}
		r.WatchMembers(members)
		r.awaitDeaths(waitLook(time.Since(begun)))
	}
	r.Facts.Times.Run += r.lap()
}

// waitLook returns when to look at processes that do not tell of their death: after a sixteenth of the
// time that they have been waited for.
func waitLook(waited time.Duration) time.Time {
	return time.Now().Add(min(max(waited/16, ladder.FirstLook), time.Second))
}

// awaitDeaths moves bytes until all members that are watched have died, or, where none is, until the
// given time. While one that is watched lives the tree is not empty, so that the others need no look.
func (r background) awaitDeaths(look time.Time) {
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
			until = ladder.Earlier(until, look)
		}
		r.Step(until)
		watching = watching && !r.Blind
	}
}

// listLeft records which processes of the tree are alive. It is called again at the end: those listed earlier may have
// died by then, and others been born.
func (r reaper) listLeft() {
	r.Tree.Until(r.mark.Add(r.cfg.Drain))
	members, sure := r.Tree.Live()
	r.Unseen = !sure
	r.Facts.Left = r.Facts.Left[:0]
	for _, m := range members {
		r.Facts.Left = append(r.Facts.Left, ladder.Named(m.Process))
	}
	slices.SortFunc(r.Facts.Left, func(a, b proctree.Process) int { return cmp.Compare(a.PID, b.PID) })
}
