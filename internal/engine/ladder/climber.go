package ladder

import (
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// A Climber ends one tree, of a run or of KillTree: it owns the tree and climbs the ladder of signals. It belongs to
// the goroutine of its Waiter.
type Climber struct {
	Tree   proctree.Tree
	Poller poll.Poller
	Wake   func() // Poller.Wake, bound once
	Waiter Waiter

	Actor seam.Program // answers in place of the tree, for a test; else nil
	deaf  bool         // Actor ignores the last signal

	// Written by the Waiter's Step.
	Exited bool // the leader has exited and is not reaped, or is a member like any other
	Blind  bool // the poller has failed: everything is tried, at short intervals

	Leaf        *cgroup.Leaf // the cgroup that the tree was born in; else nil
	vacated     bool         // Leaf was seen to be empty
	leafWatched bool         // by the poller

	watched  map[int]*proctree.Member    // by poller token
	signaled map[proctree.Process]string // the names of the processes that were sent a signal; the keys have none
	Sent     uint64                      // the signals that were sent to the leader, by SignalBit
	looked   bool                        // by AwaitEmpty, since the present climb began
	Empty    bool                        // a look has found the tree empty
	Unseen   bool                        // the last look could not see every process
	Meter    usage.Meter                 // of what the tree uses
}

// A Waiter waits for a tree to end, and does its other work meanwhile.
type Waiter interface {
	// Step waits until something happens, until the given time at the latest.
	Step(until time.Time)
	// CutShort reports whether to end the wait that follows the signal of a rung early, and not to send that signal if
	// it was not sent yet.
	CutShort(rung syscall.Signal) bool
}

// Open makes the poller.
func (c *Climber) Open() (err error) {
	if c.Poller, err = poll.New(); err != nil {
		return err
	}
	c.Wake = c.Poller.Wake
	return nil
}

// WatchLeader makes Await report the leader's exit. It reports false where the poller cannot.
func (c *Climber) WatchLeader(pidfd int) bool {
	return !c.Poller.SetsNonblock() && c.Poller.Add(pidfd, poll.Read, TokenExit) == nil
}

// Await waits until something happens, until the given time at the latest, and returns what happened.
func (c *Climber) Await(until time.Time) []poll.Event {
	if c.Blind {
		time.Sleep(min(max(time.Until(until), 0), blindStep))
		return nil
	}
	events, err := c.Poller.Wait(until)
	c.Blind = err != nil
	return events
}

// End climbs the ladder of the rungs.
func (c *Climber) End(rungs Rungs) { c.Climb(rungs.ladder()) }

// Climb sends the signals of the ladder, one after the other, until the tree is empty or the ladder ends. It skips the
// rungs that the Waiter cuts short.
func (c *Climber) Climb(ladder *escalate.Ladder) {
	c.looked = false
	for !c.Empty {
		rung, ok := ladder.Next(time.Now())
		if !ok {
			return
		}
		if c.Waiter.CutShort(rung.Signal) {
			continue
		}
		c.SignalTree(rung.Signal, ladder.Until())
		c.AwaitEmpty(ladder.Until(), rung.Signal)
	}
}

// SignalTree sends the signal of one rung to the leader's group and to every member outside it. The leader is reaped
// later, so it pins the group's number. SIGCONT follows, since a stopped process handles no other signal. SIGKILL
// needs none: it goes to a tree that is frozen first.
func (c *Climber) SignalTree(sig syscall.Signal, until time.Time) {
	if c.Actor != nil {
		c.signalActor(sig)
		return
	}
	c.Tree.Until(escalate.Before(until))
	if sig == syscall.SIGKILL {
		if !c.looked {
			c.Tree.Live() // what the group's number reaches could not be named afterwards
		}
		c.Meter.Look(&c.Tree) // while the members live
	}
	if !c.Exited {
		c.Sent |= SignalBit(sig)
	}
	if sig == syscall.SIGKILL {
		if !c.Tree.KillLeaf(c.noteSignaled) || !c.vacates(until) { // the next look finds what has left the cgroup
			c.Tree.Kill(until, c.noteSignaled)
			c.Waiter.Step(Past) // the leader may be dead by now
		}
		return
	}
	c.Tree.Quiet(func() { c.signalAll(sig) })
}

func (c *Climber) signalAll(sig syscall.Signal) {
	members, _ := c.Tree.All()
	c.Meter.Look(&c.Tree) // lists the same members again: nothing in it adds or forgets one
	for _, m := range members {
		c.noteSignaled(m)
	}
	c.Send(sig, members)
	c.Send(proctree.SIGCONT, members)
}

// Send sends a signal to the leader's group and to the members outside it.
func (c *Climber) Send(sig syscall.Signal, members []*proctree.Member) {
	// ESRCH: the group is gone, or nothing pins its number. EPERM: set-user-ID programs, which show as survivors.
	grouped := c.Tree.SignalGroup(sig) == nil
	if !c.Exited && c.Tree.LeaderStrays() {
		_ = c.Tree.SignalLeader(sig)
	}
	for _, m := range members {
		if !grouped || !c.Tree.InLeaderGroup(m) {
			_ = c.Tree.Signal(m, sig)
		}
	}
}

// noteSignaled records that m is sent a signal, under the name that it has now: when it was found it may not have
// executed its program yet.
func (c *Climber) noteSignaled(m *proctree.Member) {
	if c.signaled == nil {
		c.signaled = make(map[proctree.Process]string)
	}
	if _, ok := c.signaled[Identity(m.Process)]; !ok {
		c.signaled[Identity(m.Process)] = Named(m.Process).Name
	}
}

// Identity is p without its name, which changes at an exec.
func Identity(p proctree.Process) proctree.Process {
	return proctree.Process{PID: p.PID, Start: p.Start}
}

// Killed returns the processes that were sent a signal and are not in alive, the oldest first.
func (c *Climber) Killed(alive map[proctree.Process]bool) []proctree.Process {
	var killed []proctree.Process
	for p, name := range c.signaled {
		if !alive[p] {
			killed = append(killed, proctree.Process{PID: p.PID, Start: p.Start, Name: name})
		}
	}
	slices.SortFunc(killed, byAge)
	return killed
}

// Signaled reports whether anything was sent a signal.
func (c *Climber) Signaled() bool { return len(c.signaled) > 0 }

// Watched returns how many members the poller watches.
func (c *Climber) Watched() int { return len(c.watched) }

// The time between two looks at a tree grows from FirstLook to LastLook. Looks are for members that the poller does not
// watch, and for those that are born while another takes long to die.
const (
	FirstLook = time.Millisecond
	LastLook  = 50 * time.Millisecond
)

// AwaitEmpty waits until the leader has exited and a look finds the tree empty, until the given time at the latest. The
// Waiter moves bytes meanwhile. While SIGKILL is the rung, members born since get it as well. After a gentler signal
// they do not get it before the next rung: a program that forks when it is told to end would be told again and again.
func (c *Climber) AwaitEmpty(until time.Time, rung syscall.Signal) {
	if c.Actor != nil {
		c.awaitActor(until, rung)
		return
	}
	c.watchLeaf()
	c.Tree.Until(until)
	c.looked = true
	for look := FirstLook; ; look = min(2*look, LastLook) {
		c.vacated = false // only what comes after this look is news
		members, sure := c.Tree.Live()
		c.Unseen = !sure
		if len(members) == 0 && sure && c.Exited {
			c.Empty = true
			return
		}
		if len(members) == 0 && !sure && c.Exited && c.Tree.Blind() {
			return // no look can prove the tree empty
		}
		if rung == syscall.SIGKILL && !c.Exited {
			_ = c.Tree.SignalLeader(rung)
		}
		if rung == syscall.SIGKILL && c.Tree.Fresh() {
			members = c.Tree.Kill(until, c.noteSignaled)
		}
		again := until
		all := c.WatchMembers(members) && sure
		watching := len(c.watched) > 0
		if !all || rung == syscall.SIGKILL {
			again = Earlier(until, time.Now().Add(look))
		}
		news := func() bool { return c.Exited && ((all || watching) && len(c.watched) == 0 || c.vacated) }
		for time.Now().Before(again) && !news() && !c.Waiter.CutShort(rung) {
			c.Waiter.Step(again)
		}
		if !time.Now().Before(until) || c.Waiter.CutShort(rung) {
			if len(members) == 0 && !sure && c.Exited {
				return // another look would come too late as well
			}
			members, sure = c.Tree.Live()
			c.Unseen = !sure
			c.Empty = c.Exited && sure && len(members) == 0
			return
		}
	}
}

// Named is p with the name of the program that it executes by now.
func Named(p proctree.Process) proctree.Process {
	if now := proctree.Inspect(p.PID); Identity(now) == Identity(p) {
		return now
	}
	return p
}

// signalActor is SignalTree for a fake command.
func (c *Climber) signalActor(sig syscall.Signal) {
	if !c.Exited {
		c.Sent |= SignalBit(sig)
	}
	c.deaf = !c.Actor.Signal(sig)
}

// awaitActor is AwaitEmpty for a fake command. It does not wait for one that ignores the signal.
func (c *Climber) awaitActor(until time.Time, rung syscall.Signal) {
	for !c.Exited && !c.deaf && time.Now().Before(until) && !c.Waiter.CutShort(rung) {
		c.Waiter.Step(until)
	}
	c.Empty = c.Exited
}
