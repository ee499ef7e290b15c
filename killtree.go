package safeexec

import (
	"os"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// signalTree sends one rung's signal to the leader's group and to every member outside it. The
// leader, which is reaped later, pins the group's number. SIGCONT follows, or what is stopped would
// not hear of it; SIGKILL needs none, and goes to a tree that is frozen first.
func (r *run) signalTree(sig syscall.Signal, until time.Time) {
	if !r.exited {
		r.sent |= signalBit(sig)
	}
	if sig == syscall.SIGKILL {
		if !r.tree.KillLeaf(r.noteSignaled) || !r.vacates() { // who has left it is found by the next look
			r.tree.Kill(until, r.noteSignaled)
		}
		return
	}
	r.tree.Quiet(func() { r.signalAll(sig) })
}

func (r *run) signalAll(sig syscall.Signal) {
	members, _ := r.tree.All()
	_ = r.tree.SignalGroup(sig) // ESRCH: all gone; EPERM: set-user-ID, which the result shows as survivors
	for _, m := range members {
		r.noteSignaled(m)
		if !r.tree.InLeaderGroup(m) {
			_ = r.tree.Signal(m, sig)
		}
	}
	_ = r.tree.SignalGroup(proctree.SIGCONT)
	for _, m := range members {
		if !r.tree.InLeaderGroup(m) {
			_ = r.tree.Signal(m, proctree.SIGCONT)
		}
	}
}

// noteSignaled writes down that a member was sent a signal.
func (r *run) noteSignaled(m *proctree.Member) {
	if r.signaled == nil {
		r.signaled = make(map[proctree.Process]struct{})
	}
	r.signaled[m.Process] = struct{}{}
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
func (r *run) awaitEmpty(until time.Time, rung syscall.Signal) {
	r.watchLeaf()
	for look := firstLook; ; look = min(2*look, lastLook) {
		r.vacated = false // the look sees it; what comes after that is news
		members, sure := r.tree.Live()
		r.unseen = !sure
		if len(members) == 0 && sure && r.exited {
			r.empty = true
			return
		}
		if rung == syscall.SIGKILL {
			r.tree.Kill(until, r.noteSignaled)
			members, sure = r.tree.Live()
		}
		again := until
		all := r.watchMembers(members) && sure
		if !all || rung == syscall.SIGKILL {
			again = earlier(until, time.Now().Add(look))
		}
		for time.Now().Before(again) && !(r.exited && (all && len(r.watched) == 0 || r.vacated)) && !r.cutShort(rung) {
			r.step(again)
		}
		if !time.Now().Before(until) || r.cutShort(rung) {
			members, sure = r.tree.Live()
			r.unseen = !sure
			r.empty = r.exited && sure && len(members) == 0
			return
		}
	}
}

// cutShort reports whether a linger has to end, which is the wait without a rung: the run is to end.
func (r *run) cutShort(rung syscall.Signal) bool {
	return rung == 0 && r.reason(time.Now()) != CauseNone
}

// watchMembers has step told of the members' deaths, and reports whether it is told of all.
func (r *run) watchMembers(members []*proctree.Member) bool {
	all := !r.blind
	for _, m := range members {
		token := tokenMember + m.PID
		if r.watched[token] == m {
			continue
		}
		if m.FD < 0 || r.poller.Add(m.FD, poll.Read, token) != nil {
			all = false
			continue
		}
		if r.watched == nil {
			r.watched = make(map[int]*proctree.Member)
		}
		r.watched[token] = m
	}
	return all
}

func (r *run) memberDied(token int) {
	if m := r.watched[token]; m != nil {
		r.tree.Gone(m)
	}
}

// unwatchMember is called by the tree before it closes a member's descriptor.
func (r *run) unwatchMember(m *proctree.Member) {
	if token := tokenMember + m.PID; r.watched[token] == m {
		delete(r.watched, token)
		_ = r.poller.Remove(m.FD)
	}
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
	err := r.own.Process.Signal(sig)
	if err != nil && before&signalBit(sig) == 0 {
		r.callerSent.And(^signalBit(sig))
	}
	return err
}

// takeStock writes down who was signaled and who is alive.
func (r *run) takeStock() {
	r.result.Hidden = r.tree.Hidden()
	if r.tree.Stuck() {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLook)
	}
	alive := make(map[proctree.Process]bool)
	if !r.empty && !r.left {
		if !r.exited {
			leader := proctree.Inspect(r.result.PID)
			r.result.Survivors = append(r.result.Survivors, info(leader))
		}
		members, _ := r.tree.All()
		for _, m := range members {
			alive[m.Process] = true
			r.result.Survivors = append(r.result.Survivors, info(m.Process))
		}
	}
	for p := range r.signaled {
		if !alive[p] {
			r.result.Killed = append(r.result.Killed, info(p))
		}
	}
}

func info(p proctree.Process) ProcessInfo {
	return ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: p.Name}
}

// reap takes the leader's status, which releases its numbers, and everything else that the run holds.
func (r *run) reap() {
	r.takeStock()
	r.unwatchExit()
	r.tree.Close()
	if r.exited && !r.tree.Reapable() {
		r.exited = false
		r.result.Survivors = append(r.result.Survivors, info(proctree.Inspect(r.result.PID)))
	}
	if !r.exited {
		// It survived SIGKILL, or a tracer holds the zombie. Waiting for it here could be for ever.
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLeader)
		go func() { _ = r.own.Wait() }()
	} else {
		if r.stops != nil {
			<-r.stops // it returns at the exit, and asks for the number, which is ours until the next line
		}
		r.state, r.waitErr = r.own.Process.Wait()
		if r.waitErr != nil {
			_ = r.own.Process.Release() // Wait keeps the pidfd where somebody else reaped
		}
	}
	if r.inquiry != nil && !r.inquiry.Done() {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedReport)
	}
	r.closeWaiting()
	r.removeLeaf()
	r.result.Times.Total = time.Since(r.result.Times.Started)
}

// closeWaiting ends what wakes the run, the poller, and the marks, and gives up what was reserved.
func (r *run) closeWaiting() {
	if r.unwatch != nil {
		r.unwatch()
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

// leafDeath is how long those in a cgroup have to die at once before they are looked at one by one. To do
// that meanwhile takes longer: thousands of processes need a tenth of a second.
const leafDeath = 500 * time.Millisecond

// vacates reports whether the cgroup, which was killed, becomes empty within that, or half the kill
// timeout if it is shorter.
func (r *run) vacates() bool {
	r.watchLeaf()
	until := time.Now().Add(min(leafDeath, r.cfg.kill/2))
	for look := firstLook / 10; ; look = min(2*look, firstLook) {
		if r.lookAtLeaf(); r.vacated || !time.Now().Before(until) {
			return r.vacated
		}
		r.step(earlier(until, time.Now().Add(look)))
	}
}

// watchLeaf has step told when the cgroup becomes empty. Where that can not be had, it is looked at.
func (r *run) watchLeaf() {
	if r.leaf == nil || r.leafWatched {
		return
	}
	r.leafWatched = true
	_ = r.poller.Add(r.leaf.EventsFD(), poll.Change, tokenCgroup)
	r.lookAtLeaf() // a change is one of what was last read
}

func (r *run) lookAtLeaf() {
	populated, err := r.leaf.Populated()
	r.vacated = err == nil && !populated
}
