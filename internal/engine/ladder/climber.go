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

// An Ending is the end of one tree, for a run or for KillTree: it owns the tree and climbs the ladder.
// It belongs to the goroutine of its waiter.
type Climber struct {
	Tree   proctree.Tree
	Poller poll.Poller
	Wake   func() // Poller.Wake, bound once
	Waiter Waiter

	Actor seam.Program // in place of the tree, for a test; else nil
	deaf  bool         // the last signal does nothing to Actor

	// Written by the waiter's step.
	Exited bool // the leader has exited and is not reaped, or is a member like others
	Blind  bool // the poller failed: everything is tried, at short intervals

	vacated     bool         // the leaf was seen to be empty
	leafWatched bool         // by the poller
	Leaf        *cgroup.Leaf // that the tree was born in; nil without a cgroup

	watched  map[int]*proctree.Member    // by poller token
	signaled map[proctree.Process]string // names, of those that were sent a signal; the keys have none
	Sent     uint64                      // signals that were sent to the leader, by SignalBit
	looked   bool                        // by AwaitEmpty, since the present climb began
	Empty    bool                        // the tree was seen to be empty
	Unseen   bool                        // the last look at the tree could not see everybody
	Meter    usage.Meter                 // of what the tree uses
}

// A Waiter is who waits for a tree to end and has other things to see to meanwhile.
type Waiter interface {
	// Step waits until something happens, until the given time at the latest.
	Step(until time.Time)
	// CutShort reports whether the wait after the signal of a rung has to end before its time, and the
	// signal not to be sent if it was not yet.
	CutShort(rung syscall.Signal) bool
}

// Open makes the poller.
func (e *Climber) Open() (err error) {
	if e.Poller, err = poll.New(); err != nil {
		return err
	}
	e.Wake = e.Poller.Wake
	return nil
}

// WatchLeader has Await told of the leader's exit. It reports false if that cannot be had.
func (e *Climber) WatchLeader(pidfd int) bool {
	return !e.Poller.SetsNonblock() && e.Poller.Add(pidfd, poll.Read, TokenExit) == nil
}

// Await waits until something happens, until the given time at the latest, and returns what.
func (e *Climber) Await(until time.Time) []poll.Event {
	if e.Blind {
		time.Sleep(min(max(time.Until(until), 0), blindStep))
		return nil
	}
	events, err := e.Poller.Wait(until)
	e.Blind = err != nil
	return events
}

// End is Climb by the rungs.
func (e *Climber) End(rungs Rungs) { e.Climb(rungs.ladder()) }

// Climb sends the signals of the ladder, one after the other, until the tree is empty or the ladder ends. It
// leaves out those that the waiter has no time for.
func (e *Climber) Climb(ladder *escalate.Ladder) {
	e.looked = false
	for !e.Empty {
		rung, ok := ladder.Next(time.Now())
		if !ok {
			return
		}
		if e.Waiter.CutShort(rung.Signal) {
			continue
		}
		e.SignalTree(rung.Signal, ladder.Until())
		e.AwaitEmpty(ladder.Until(), rung.Signal)
	}
}

// SignalTree sends one rung's signal to the leader's group and to every member outside it. The
// leader, which is reaped later, pins the group's number. SIGCONT follows, or what is stopped would
// not hear of it; SIGKILL needs none, and goes to a tree that is frozen first.
func (e *Climber) SignalTree(sig syscall.Signal, until time.Time) {
	if e.Actor != nil {
		e.signalActor(sig)
		return
	}
	e.Tree.Until(escalate.Before(until))
	if sig == syscall.SIGKILL {
		if !e.looked {
			e.Tree.Live() // whom it reaches by a number could not be named any more
		}
		e.Meter.Look(&e.Tree) // at those that the last look has found
	}
	if !e.Exited {
		e.Sent |= SignalBit(sig)
	}
	if sig == syscall.SIGKILL {
		if !e.Tree.KillLeaf(e.noteSignaled) || !e.vacates(until) { // who has left it is found by the next look
			e.Tree.Kill(until, e.noteSignaled)
			e.Waiter.Step(Past) // the leader may be dead by now
		}
		return
	}
	e.Tree.Quiet(func() { e.signalAll(sig) })
}

func (e *Climber) signalAll(sig syscall.Signal) {
	members, _ := e.Tree.All()
	e.Meter.Look(&e.Tree)
	for _, m := range members {
		e.noteSignaled(m)
	}
	e.Send(sig, members)
	e.Send(proctree.SIGCONT, members)
}

// Send sends a signal to the leader's group and to the members outside it.
func (e *Climber) Send(sig syscall.Signal, members []*proctree.Member) {
	// ESRCH: all gone, or nothing pins the number; EPERM: set-user-ID, which shows as a survivor.
	grouped := e.Tree.SignalGroup(sig) == nil
	if !e.Exited && e.Tree.LeaderStrays() {
		_ = e.Tree.SignalLeader(sig)
	}
	for _, m := range members {
		if !grouped || !e.Tree.InLeaderGroup(m) {
			_ = e.Tree.Signal(m, sig)
		}
	}
}

// noteSignaled records that m is sent a signal, and its name at that time: when m was found it may not
// have executed its program yet.
func (e *Climber) noteSignaled(m *proctree.Member) {
	if e.signaled == nil {
		e.signaled = make(map[proctree.Process]string)
	}
	if _, ok := e.signaled[Identity(m.Process)]; !ok {
		e.signaled[Identity(m.Process)] = Named(m.Process).Name
	}
}

// Identity is p without its name, which changes at an exec.
func Identity(p proctree.Process) proctree.Process {
	return proctree.Process{PID: p.PID, Start: p.Start}
}

// Killed returns what was sent a signal and is not in alive, the oldest first.
func (e *Climber) Killed(alive map[proctree.Process]bool) []proctree.Process {
	var killed []proctree.Process
	for p, name := range e.signaled {
		if !alive[p] {
			killed = append(killed, proctree.Process{PID: p.PID, Start: p.Start, Name: name})
		}
	}
	slices.SortFunc(killed, byAge)
	return killed
}

// Signaled reports whether anything was sent a signal.
func (e *Climber) Signaled() bool { return len(e.signaled) > 0 }

// Watched returns how many members' deaths the waiter's step is told of.
func (e *Climber) Watched() int { return len(e.watched) }

// Looks at a tree are repeated at the latest after these times: for members that cannot be
// watched, and for those born meanwhile while another takes long to die.
const (
	FirstLook = time.Millisecond
	LastLook  = 50 * time.Millisecond
)

// AwaitEmpty waits until a look at the tree finds nobody and the leader has exited, until the given
// time at the latest, and moves bytes meanwhile. While SIGKILL is the rung, whoever was born since
// gets it as well; after a gentler signal those are left alone until the next rung, or a program
// that forks when it is told to end would be driven on.
func (e *Climber) AwaitEmpty(until time.Time, rung syscall.Signal) {
	if e.Actor != nil {
		e.awaitActor(until, rung)
		return
	}
	e.watchLeaf()
	e.Tree.Until(until)
	e.looked = true
	for look := FirstLook; ; look = min(2*look, LastLook) {
		e.vacated = false // the look sees it; what comes after that is news
		members, sure := e.Tree.Live()
		e.Unseen = !sure
		if len(members) == 0 && sure && e.Exited {
			e.Empty = true
			return
		}
		if len(members) == 0 && !sure && e.Exited && e.Tree.Blind() {
			return // nobody is found, and no look can say that nobody is there
		}
		if rung == syscall.SIGKILL && !e.Exited {
			_ = e.Tree.SignalLeader(rung)
		}
		if rung == syscall.SIGKILL && e.Tree.Fresh() {
			members = e.Tree.Kill(until, e.noteSignaled)
		}
		again := until
		all := e.WatchMembers(members) && sure
		watching := len(e.watched) > 0
		if !all || rung == syscall.SIGKILL {
			again = Earlier(until, time.Now().Add(look))
		}
		news := func() bool { return e.Exited && ((all || watching) && len(e.watched) == 0 || e.vacated) }
		for time.Now().Before(again) && !news() && !e.Waiter.CutShort(rung) {
			e.Waiter.Step(again)
		}
		if !time.Now().Before(until) || e.Waiter.CutShort(rung) {
			if len(members) == 0 && !sure && e.Exited {
				return // another look would come too late as well
			}
			members, sure = e.Tree.Live()
			e.Unseen = !sure
			e.Empty = e.Exited && sure && len(members) == 0
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

// signalActor is SignalTree for an actor.
func (e *Climber) signalActor(sig syscall.Signal) {
	if !e.Exited {
		e.Sent |= SignalBit(sig)
	}
	e.deaf = !e.Actor.Signal(sig)
}

// awaitActor is AwaitEmpty for an actor. What a signal does nothing to is not waited for: nothing but time would pass.
func (e *Climber) awaitActor(until time.Time, rung syscall.Signal) {
	for !e.Exited && !e.deaf && time.Now().Before(until) && !e.Waiter.CutShort(rung) {
		e.Waiter.Step(until)
	}
	e.Empty = e.Exited
}
