package ladder

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A TreeEnd is what became of a tree.
type TreeEnd struct {
	Tracks    proctree.Tracks
	Killed    []proctree.Process // the oldest first
	Survivors []Survivor         // the oldest first
	Hidden    int
	Sure      bool // all processes could be seen
}

// A Survivor is a process that is alive, and why it could not be signaled if it could not.
type Survivor struct {
	proctree.Process
	Err error
}

// Rungs say how a tree is ended.
type Rungs struct {
	Signal      syscall.Signal
	Grace, Kill time.Duration
}

// A kill is the end of a tree that another program started. All of it belongs to the calling goroutine.
type kill struct {
	Climber

	ctx     context.Context
	unwatch func() bool // of ctx, if there is a poller to wake
	marks   proctree.Mark
}

// KillTree ends the tree of root. The error says why nothing was signaled: [proctree.ErrNoProcess] if it is empty.
func KillTree(ctx context.Context, root *proctree.Root, rungs Rungs) (end TreeEnd, err error) {
	k := &kill{ctx: ctx}
	k.open(root)
	defer k.close()
	if err := k.Tree.Gather(func() bool { return k.ctx.Err() != nil }); err != nil {
		return end, err
	}
	end.Tracks = k.Tree.Tracks()
	if members, sure := k.Tree.Live(); sure && len(members) == 0 {
		k.Tree.ReapAdopted()
		return end, proctree.ErrNoProcess
	}
	k.Climb(k.ladder(rungs))
	k.takeStock(&end)
	return end, nil
}

// open gets ready to signal and to wait. Without a poller, for want of descriptors perhaps, the tree is
// looked at again and again.
func (k *kill) open(root *proctree.Root) {
	k.Waiter, k.Exited = k, true
	var err error
	if k.Poller, err = poll.New(); err != nil {
		k.Blind = true
	} else { // once: one that is over would wake each wait, and need not be a reason to end it
		k.unwatch = context.AfterFunc(k.ctx, k.Poller.Wake)
	}
	k.marks.BeginBelow()
	k.Tree.InitBelow(root, &k.marks, k.UnwatchMember)
}

func (k *kill) close() {
	k.Tree.Close()
	if k.Poller != nil {
		k.unwatch()
		k.Poller.Close()
	}
	k.marks.End()
}

// ladder has the rungs fit in before the deadline.
func (k *kill) ladder(rungs Rungs) *escalate.Ladder {
	if d, ok := k.ctx.Deadline(); ok {
		left := max(time.Until(d), 0)
		rungs.Kill = min(rungs.Kill, left)
		rungs.Grace = min(rungs.Grace, left-rungs.Kill)
	}
	return rungs.ladder()
}

func (r Rungs) ladder() *escalate.Ladder {
	return escalate.New(
		escalate.Rung{Signal: r.Signal, Wait: r.Grace},
		escalate.Rung{Signal: syscall.SIGKILL, Wait: r.Kill},
	)
}

// Step is that of the waiter.
func (k *kill) Step(until time.Time) {
	for _, e := range k.Await(until) {
		k.MemberDied(e.Token)
	}
}

// CutShort is that of the waiter. A deadline is none of its reasons: the ladder ends by then.
func (k *kill) CutShort(syscall.Signal) bool {
	return errors.Is(k.ctx.Err(), context.Canceled)
}

// takeStock records which processes are gone and which are alive.
func (k *kill) takeStock(end *TreeEnd) {
	var members []*proctree.Member
	if end.Sure = k.Empty; !k.Empty {
		members, end.Sure = k.Tree.Live()
	}
	k.Tree.ReapAdopted()
	end.Hidden = k.Tree.Hidden()
	alive := make(map[proctree.Process]bool)
	for _, m := range members {
		alive[Identity(m.Process)] = true
		end.Survivors = append(end.Survivors, Survivor{Named(m.Process), m.Err})
	}
	end.Killed = k.Killed(alive)
	slices.SortFunc(end.Survivors, func(a, b Survivor) int { return byAge(a.Process, b.Process) })
}

func byAge(a, b proctree.Process) int {
	return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
}
