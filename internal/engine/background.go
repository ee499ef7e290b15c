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

// treat applies the policy to the processes that the leader has left behind. It may change the cause: then they are
// ended for it. A command that did not get the limits that it should have leaves none.
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

// lingers gives them a moment to end by themselves. The deadline, cancellation and Stop cut it short, and do not change
// the cause: the command has exited.
func (r background) lingers() {
	r.AwaitEmpty(ladder.Earlier(r.mark.Add(r.cfg.Linger), r.deadline), 0)
	if r.Empty {
		r.Facts.Times.Stop = r.lap()
	}
}

// waits returns once a look finds the tree empty or there is a reason to end it. As in observe the look comes last: a
// tree that ended in time is not reported as timed out.
func (r background) waits() {
	r.exitSeen.Store(true) // Signal would reach a zombie
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

// waitLook returns when to look at processes that are not watched: after a sixteenth of the time that the tree has been
// waited for.
func waitLook(waited time.Duration) time.Time {
	return time.Now().Add(min(max(waited/16, ladder.FirstLook), time.Second))
}

// awaitDeaths moves bytes until all watched members have died, or, where none is watched, until the given time. While a
// watched member lives the tree is not empty, and the others need no look.
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

// listLeft records which processes of the tree are alive. It is called again at the end: some may have died by then,
// and others been born.
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
