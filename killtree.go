package safeexec

import (
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// An ending is the end of one tree, for a run or for KillTree: it owns the tree and climbs the ladder.
// It belongs to the goroutine of its waiter.
type ending struct {
	tree   proctree.Tree
	actor  *actor // in place of the tree, for a test; else nil
	poller poll.Poller
	waiter waiter

	// Written by the waiter's step.
	exited bool // the leader has exited and is not reaped, or is a member like others
	blind  bool // the poller failed: everything is tried, at short intervals

	vacated     bool         // the leaf was seen to be empty
	leafWatched bool         // by the poller
	leaf        *cgroup.Leaf // that the tree was born in; nil without a cgroup

	watched  map[int]*proctree.Member    // by poller token
	signaled map[proctree.Process]string // names, of those that were sent a signal; the keys have none
	sent     uint64                      // signals that were sent to the leader, by signalBit
	empty    bool                        // the tree was seen to be empty
	unseen   bool                        // the last look at the tree could not see everybody
	meter    usage.Meter                 // of what the tree uses
}

// A waiter is who waits for a tree to end and has other things to see to meanwhile.
type waiter interface {
	// step waits until something happens, until the given time at the latest.
	step(until time.Time)
	// cutShort reports whether the wait after the signal of a rung has to end before its time, and the
	// signal not to be sent if it was not yet.
	cutShort(rung syscall.Signal) bool
}

// climb sends the signals of the ladder, one after the other, until the tree is empty or the ladder ends. It
// leaves out those that the waiter has no time for.
func (e *ending) climb(ladder *escalate.Ladder) {
	for !e.empty {
		rung, ok := ladder.Next(time.Now())
		if !ok {
			return
		}
		if e.waiter.cutShort(rung.Signal) {
			continue
		}
		e.signalTree(rung.Signal, ladder.Until())
		e.awaitEmpty(ladder.Until(), rung.Signal)
	}
}

// signalTree sends one rung's signal to the leader's group and to every member outside it. The
// leader, which is reaped later, pins the group's number. SIGCONT follows, or what is stopped would
// not hear of it; SIGKILL needs none, and goes to a tree that is frozen first.
func (e *ending) signalTree(sig syscall.Signal, until time.Time) {
	if e.actor != nil {
		e.signalActor(sig)
		return
	}
	e.tree.Until(until)
	if sig == syscall.SIGKILL {
		e.meter.Look(&e.tree) // at those that the last look has found
	}
	if !e.exited {
		e.sent |= signalBit(sig)
	}
	if sig == syscall.SIGKILL {
		if !e.tree.KillLeaf(e.noteSignaled) || !e.vacates(until) { // who has left it is found by the next look
			e.tree.Kill(until, e.noteSignaled)
			e.waiter.step(past) // the leader may be dead by now
		}
		return
	}
	e.tree.Quiet(func() { e.signalAll(sig) })
}

func (e *ending) signalAll(sig syscall.Signal) {
	members, _ := e.tree.All()
	e.meter.Look(&e.tree)
	for _, m := range members {
		e.noteSignaled(m)
	}
	e.send(sig, members)
	e.send(proctree.SIGCONT, members)
}

// send sends a signal to the leader's group and to the members outside it.
func (e *ending) send(sig syscall.Signal, members []*proctree.Member) {
	// ESRCH: all gone, or nothing pins the number; EPERM: set-user-ID, which shows as a survivor.
	grouped := e.tree.SignalGroup(sig) == nil
	if !e.exited && e.tree.LeaderStrays() {
		_ = e.tree.SignalLeader(sig)
	}
	for _, m := range members {
		if !grouped || !e.tree.InLeaderGroup(m) {
			_ = e.tree.Signal(m, sig)
		}
	}
}

// noteSignaled records that m is sent a signal, and its name at that time: when m was found it may not
// have executed its program yet.
func (e *ending) noteSignaled(m *proctree.Member) {
	if e.signaled == nil {
		e.signaled = make(map[proctree.Process]string)
	}
	if _, ok := e.signaled[identity(m.Process)]; !ok {
		e.signaled[identity(m.Process)] = named(m.Process).Name
	}
}

// identity is p without its name, which changes at an exec.
func identity(p proctree.Process) proctree.Process {
	return proctree.Process{PID: p.PID, Start: p.Start}
}

// killed returns who was sent a signal and is not in alive.
func (e *ending) killed(alive map[proctree.Process]bool) []ProcessInfo {
	var killed []ProcessInfo
	for p, name := range e.signaled {
		if !alive[p] {
			killed = append(killed, ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: name})
		}
	}
	slices.SortFunc(killed, byAge)
	return killed
}

// Looks at a tree are repeated at the latest after these times: for members that can not be
// watched, and for those born meanwhile while another takes long to die.
const (
	firstLook = time.Millisecond
	lastLook  = 50 * time.Millisecond
)

// awaitEmpty waits until a look at the tree finds nobody and the leader has exited, until the given
// time at the latest, and moves bytes meanwhile. While SIGKILL is the rung, whoever was born since
// gets it as well; after a gentler signal those are left alone until the next rung, or a program
// that forks when it is told to end would be driven on.
func (e *ending) awaitEmpty(until time.Time, rung syscall.Signal) {
	if e.actor != nil {
		e.awaitActor(until, rung)
		return
	}
	e.watchLeaf()
	e.tree.Until(until)
	for look := firstLook; ; look = min(2*look, lastLook) {
		e.vacated = false // the look sees it; what comes after that is news
		members, sure := e.tree.Live()
		e.unseen = !sure
		if len(members) == 0 && sure && e.exited {
			e.empty = true
			return
		}
		if len(members) == 0 && !sure && e.exited && e.tree.Blind() {
			return // nobody is found, and no look can say that nobody is there
		}
		if rung == syscall.SIGKILL && !e.exited {
			_ = e.tree.SignalLeader(rung)
		}
		if rung == syscall.SIGKILL && e.tree.Fresh() {
			members = e.tree.Kill(until, e.noteSignaled)
		}
		again := until
		all := e.watchMembers(members) && sure
		watching := len(e.watched) > 0
		if !all || rung == syscall.SIGKILL {
			again = earlier(until, time.Now().Add(look))
		}
		news := func() bool { return e.exited && ((all || watching) && len(e.watched) == 0 || e.vacated) }
		for time.Now().Before(again) && !news() && !e.waiter.cutShort(rung) {
			e.waiter.step(again)
		}
		if !time.Now().Before(until) || e.waiter.cutShort(rung) {
			if len(members) == 0 && !sure && e.exited {
				return // another look would come too late as well
			}
			members, sure = e.tree.Live()
			e.unseen = !sure
			e.empty = e.exited && sure && len(members) == 0
			return
		}
	}
}

// maxWatched is how many members' deaths step is told of. When all of those are dead it is time for a
// look, however many others there are.
const maxWatched = 64

// watchMembers has step told of the members' deaths, and reports whether it is told of all. Of many it
// prefers the last, which Kill has signaled last.
func (e *ending) watchMembers(members []*proctree.Member) bool {
	if e.blind {
		return false
	}
	all := true
	for _, m := range slices.Backward(members) {
		token := tokenMember + m.PID
		if e.watched[token] == m {
			continue
		}
		if m.FD < 0 || len(e.watched) >= maxWatched || e.poller.Add(m.FD, poll.Read, token) != nil {
			all = false
			continue
		}
		if e.watched == nil {
			e.watched = make(map[int]*proctree.Member)
		}
		e.watched[token] = m
	}
	return all
}

func (e *ending) memberDied(token int) {
	if m := e.watched[token]; m != nil {
		e.tree.Gone(m)
	}
}

// unwatchMember is called by the tree before it closes a member's descriptor.
func (e *ending) unwatchMember(m *proctree.Member) {
	if token := tokenMember + m.PID; e.watched[token] == m {
		delete(e.watched, token)
		_ = e.poller.Remove(m.FD)
	}
}

// leafDeath is how long those in a cgroup have to die at once before they are looked at one by one. To do
// that meanwhile takes longer: thousands of processes need a tenth of a second.
const leafDeath = 500 * time.Millisecond

// vacates reports whether the cgroup, which was killed, becomes empty within that, or half of the
// time that is left if that is shorter.
func (e *ending) vacates(until time.Time) bool {
	e.watchLeaf()
	until = time.Now().Add(min(leafDeath, time.Until(until)/2))
	for e.lookAtLeaf(); !e.vacated && time.Now().Before(until); e.lookAtLeaf() {
		e.waiter.step(earlier(until, time.Now().Add(firstLook)))
	}
	// Who dies leaves the cgroup a moment before the exit is seen. For one who had left it, it is not long.
	for soon := earlier(until, time.Now().Add(firstLook)); e.vacated && !e.exited && time.Now().Before(soon); {
		e.waiter.step(soon)
	}
	return e.vacated
}

// watchLeaf has step told when the cgroup becomes empty. Where that can not be had, it is looked at.
func (e *ending) watchLeaf() {
	if e.leaf == nil || e.leafWatched {
		return
	}
	e.leafWatched = true
	_ = e.poller.Add(e.leaf.EventsFD(), poll.Change, tokenCgroup)
	e.lookAtLeaf() // a change is one of what was last read
}

func (e *ending) lookAtLeaf() {
	populated, err := e.leaf.Populated()
	e.vacated = err == nil && !populated
}

// signalBit is a signal's place in a set of signals, as in sigset_t.
func signalBit(sig syscall.Signal) uint64 {
	if sig < 1 || sig > maxSignal {
		return 0
	}
	return 1 << uint(sig-1)
}

// forward is Process.Signal.
func (r *run) forward(sig syscall.Signal) error {
	if r.exitSeen.Load() {
		return os.ErrProcessDone
	}
	before := r.callerSent.Or(signalBit(sig)) // first: the leader may be gone before Signal returns
	err := r.signalLeader(sig)
	if err != nil && before&signalBit(sig) == 0 {
		r.callerSent.And(^signalBit(sig))
	}
	return err
}

func (r *run) signalLeader(sig syscall.Signal) error {
	if r.actor != nil {
		r.actor.program.Signal(sig)
		return nil
	}
	return r.process.Signal(sig)
}

// takeStock records what was signaled and what is alive.
func (r *run) takeStock() {
	r.result.Hidden = r.tree.Hidden()
	if r.tree.Stuck() {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLook)
	}
	alive := make(map[proctree.Process]bool)
	r.tree.Until(time.Now())
	switch {
	case r.left:
		r.listLeft()
	case !r.empty:
		if !r.exited {
			r.result.Survivors = append(r.result.Survivors, info(proctree.Inspect(r.result.PID)))
		}
		members, _ := r.tree.All()
		for _, m := range members {
			alive[identity(m.Process)] = true
			r.result.Survivors = append(r.result.Survivors, named(m.Process))
		}
	}
	if r.left || !r.empty {
		r.meter.Look(&r.tree)
	}
	r.result.Killed = r.killed(alive)
}

// named is info with the name of the program that the process executes by now.
func named(p proctree.Process) ProcessInfo {
	was, now := info(p), info(proctree.Inspect(p.PID))
	if was.same(now) {
		return now
	}
	return was
}

func info(p proctree.Process) ProcessInfo {
	return ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: p.Name}
}

// reap takes the leader's status, which releases its numbers, and everything else that the run holds.
func (r *run) reap() {
	if r.actor != nil {
		r.reapActor()
		return
	}
	r.takeStock()
	r.tree.ReapAdopted()
	r.unwatchExit()
	r.tree.Close()
	if r.exited && !r.tree.Reapable() {
		r.exited = false
		r.result.Survivors = append(r.result.Survivors, info(proctree.Inspect(r.result.PID)))
	}
	if !r.exited {
		// It survived SIGKILL, or a tracer holds the zombie. Waiting for it here could be for ever.
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLeader)
		go func() {
			_, _ = r.process.Wait()
			if r.own != nil {
				r.own.Process = released()
				_ = r.own.Wait()
			}
		}()
	} else {
		if r.stops != nil {
			<-r.stops // it returns at the exit, and asks for the number, which is ours until the next line
		}
		r.state, r.waitErr = r.process.Wait()
		if r.waitErr != nil {
			_ = r.process.Release() // Wait keeps the pidfd where somebody else reaped
			r.tree.ReapLeader()
		}
	}
	if r.inquiry != nil && !r.inquiry.Done() {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedReport)
	}
	r.closeWaiting()
	r.removeLeaf()
	r.meter.Reaped(&r.tree, r.state)
	r.result.Usage = newUsage(r.meter.Total())
	r.result.GuardRestarts = r.ward.End() // last: had we died before, there was something to end
	r.result.Times.Total = time.Since(r.result.Times.Started)
}

// closeWaiting ends what wakes the run, the poller, and the marks, and gives up what was reserved.
func (r *run) closeWaiting() {
	if r.unwatch != nil {
		r.unwatch()
	}
	r.delist()
	for _, stop := range r.unforce {
		stop()
	}
	if r.poller != nil {
		r.poller.Close()
	}
	r.marks.End()
	r.freeLeft()
}

// status fills in how the leader ended.
func (r *run) status(state *os.ProcessState) {
	r.result.State = state
	if state == nil {
		return
	}
	r.result.ExitCode = state.ExitCode()
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return
	}
	r.result.Signal = ws.Signal()
	r.result.CoreDumped = ws.CoreDump()
	sig := ws.Signal()
	switch {
	case r.sent&signalBit(sig) != 0:
		r.result.SignaledBy = SignalerSafeexec
	case r.callerSent.Load()&signalBit(sig) != 0:
		r.result.SignaledBy = SignalerCaller
	default:
		r.result.SignaledBy = SignalerOther
	}
}
