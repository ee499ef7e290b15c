package proctree

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// Signal sends sig to one member, through its pidfd, which never means another process. If it has none, Signal opens
// one, and then checks that the process is of the tree or has the member's start time. Without pidfds there is a gap
// of microseconds, in which the number would have to be freed and reused.
func (t *tracker) Signal(m *Member, sig syscall.Signal) error {
	m.Err = t.signal(m, sig)
	return m.Err
}

func (t *tracker) signal(m *Member, sig syscall.Signal) error {
	if m.FD >= 0 {
		return sys.PidfdSignal(m.FD, sig)
	}
	fd, err := sys.PidfdOpen(m.PID)
	if err == nil {
		defer func() { t.keep(m, fd) }()
	}
	switch {
	case sys.Gone(err):
		return err
	case t.judge(m.PID, birthWindow) != ours && t.dead(m): // the marks are cheaper to read than the start time
		return syscall.ESRCH
	case err != nil:
		return sys.Kill(m.PID, sig)
	}
	return sys.PidfdSignal(fd, sig)
}

// SignalGroup sends sig to the leader's process group, atomically against fork: it misses no process that is in
// the group at that moment. The leader, alive or zombie, pins the number, and only we reap it. If other code has
// reaped it, SignalGroup sends nothing, unless the kernel can signal a group through its leader's pidfd (6.9,
// PIDFD_SIGNAL_PROCESS_GROUP). That is the only way in which it signals the group of a root.
func (t *head) SignalGroup(sig syscall.Signal) error {
	switch {
	case t.apart:
		return syscall.ESRCH
	case t.root != nil:
		return sys.PidfdSignalGroup(t.root.fd, sig)
	}
	var err error
	if t.LendPidfd(func(fd int) { err = sys.PidfdSignalGroup(fd, sig) }) && (err == nil || sys.Gone(err)) {
		return err
	}
	if !t.Pinned() {
		return syscall.ESRCH
	}
	return sys.Kill(-t.leader, sig)
}

// SignalLeader sends sig to the leader alone, which has left its group: it can do that if the group is in our
// session. The same goes for a leader that left the cgroup that was killed.
func (t *head) SignalLeader(sig syscall.Signal) error {
	if t.root != nil {
		return syscall.ESRCH // it is a member like others
	}
	var err error
	if t.LendPidfd(func(fd int) { err = sys.PidfdSignal(fd, sig) }) {
		return err
	}
	if !t.Pinned() {
		return syscall.ESRCH
	}
	return sys.Kill(t.leader, sig)
}

// LeaderStrays reports whether a signal to the leader's group does not reach the leader.
func (t *head) LeaderStrays() bool {
	pgid, err := sys.Group(t.leader)
	return t.root == nil && err == nil && pgid != t.leader
}

// Kill sends SIGKILL to the leader's group and to every member, newest first, and calls each with the
// members. It returns them in the order of their signals.
//
// Most trees do not grow while they die. If a look finds a new member after all, the caller calls Kill
// again, which from the second time on freezes the tree first, until the given time at most: it stops every
// member, newest first, so that chains and supervisors do not get away, until a look finds no new one. A later
// look can still find one, since the kernel wakes the stopped members of a group that a death has orphaned
// (SIGHUP and SIGCONT, setpgid(2)). The caller looks and kills until none is left.
//
// A cgroup does all of that by itself, but for members that have left it. One may have left since the look, so
// Kill signals each.
func (t *Tree) Kill(until time.Time, each func(*Member)) []*Member {
	t.KillLeaf(each)
	if len(t.members) == 0 {
		t.All() // what the signal to the group kills could not be named afterwards
	}
	grouped := t.SignalGroup(syscall.SIGKILL) == nil // ESRCH: all gone, or nothing pins the number
	t.pidfds = manyPidfds()
	defer func() { t.pidfds = 0 }()
	send := func(m *Member) {
		m.killed = true
		each(m)
		if !grouped || !t.InLeaderGroup(m) {
			_ = t.Signal(m, syscall.SIGKILL)
		}
	}
	if t.grows {
		t.freeze(until, func(m *Member) bool { return grouped && t.InLeaderGroup(m) })
	} else {
		t.list() // they are dying while the caller's next look finds out whether that was all
	}
	t.grows, t.killing = true, true // or it is not killed again
	for _, m := range t.newestFirst() {
		send(m)
	}
	return t.spare
}

// Fresh reports whether the last look found a member to which Kill has not sent SIGKILL.
func (t *roster) Fresh() bool {
	return slices.ContainsFunc(t.spare, func(m *Member) bool { return !m.killed })
}

// freeze stops every member that has not been killed. A look takes longer the more processes there are,
// zombies included, and a tree that keeps forking grows meanwhile. So after each look freeze follows what was
// born since the look began.
func (t *Tree) freeze(until time.Time, killed func(*Member) bool) {
	stop := func(m *Member) bool {
		if m.stopped || killed(m) {
			return false
		}
		m.stopped = true
		return t.Signal(m, sys.SIGSTOP) == nil
	}
	for _, m := range t.members {
		m.stopped = false // it may have been woken
	}
	for range maxPasses {
		last, known := lastPID()
		t.All()
		fresh := false
		for _, m := range t.newestFirst() {
			fresh = stop(m) || fresh
		}
		if !fresh || !time.Now().Before(until) {
			return
		}
		if known {
			t.follow(last, until, stop)
		}
	}
}

// follow calls stop with the members born after last, and with those born meanwhile, until there are no
// more.
func (t *Tree) follow(last int, until time.Time, stop func(*Member) bool) {
	for time.Now().Before(until) {
		next, known := lastPID()
		if !known || next == last {
			return
		}
		fresh := false
		since := birth{leader: last}
		since.window(t, func(pid int, from origin) {
			t.considerNew(pid, from)
			if m := t.members[pid]; m != nil {
				fresh = stop(m) || fresh
			}
		}, next, pidMax.get())
		if !fresh {
			return
		}
		last = next
	}
}

// newestFirst sorts what Live returned.
func (t *roster) newestFirst() []*Member {
	slices.SortFunc(t.spare, func(a, b *Member) int {
		return cmp.Or(cmp.Compare(b.Start, a.Start), cmp.Compare(b.PID, a.PID))
	})
	return t.spare
}

// Pinned reports whether the leader's number still means the leader: our child, alive or a zombie. It no longer
// does once other code has reaped it, or the kernel has, where SIGCHLD is ignored.
func (t *head) Pinned() bool {
	if t.root != nil {
		return t.root.exists()
	}
	now := t.standing()
	return now == running || now == zombie
}
