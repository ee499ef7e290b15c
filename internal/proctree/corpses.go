package proctree

import (
	"maps"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// corpses are the numbers of members that were seen to have exited and are not known to be reaped. Where
// PID 1 is slow to reap, or we have to, a large tree is all there at every look after its kill, and
// checking each process anew would be most of the cost of that look.
//
// A zombie does not come back to life, and the kernel does not reuse its number before it is reaped. A
// process that gets the number then is born after since, and the numbers given out after a moment are
// known: they are its birth window. What can happen, and why no living process is passed over:
//
//   - A number is reaped and given out anew between two looks: each begins with the last PID and strikes
//     off what was given out since the last one began, and so does each list of all processes.
//   - The same while a look is under way: what is given out comes after the PID that the look began with,
//     and the look checks all of that at its end whatever is recorded here, see [birth.candidates].
//   - So much is given out that the sequence may have come around, or the last PID is unknown: then no
//     process is known to be dead. That is the same condition on which a window is sound.
//   - A member leaves the cgroup, a session, or its parents: it is none of these until it has exited.
//   - The first thread of a process exits before the others: waitid(2) and pidfds do not call that the
//     exit of the process, other than the state in /proc/PID/stat.
//
// Only a process that chooses the PIDs of new ones gets around it, which is a privilege: clone3(2) with set_tid,
// and /proc/sys/kernel/ns_last_pid.
type corpses struct {
	since birth // with leader 0 nothing is recorded
	pids  map[int]struct{}
}

// look begins a look at the tree, and returns what was given out last before it, with leader 0 if that is
// not known.
func (c *corpses) look() birth {
	now := birth{started: time.Now()}
	var known bool
	now.leader, now.serial, known = pids.last()
	switch {
	case len(c.pids) == 0:
	case !known || !c.since.young() && !c.since.follows(now.serial, pidMax.get()):
		clear(c.pids)
	case now.leader != c.since.leader:
		maps.DeleteFunc(c.pids, func(pid int, _ struct{}) bool { return between(c.since.leader, pid, now.leader) })
	}
	c.since = now
	return now
}

// between reports whether pid was given out after first and not after last, less than a lap later.
func between(first, pid, last int) bool {
	if last < first { // the sequence has wrapped around
		return pid > first || pid <= last
	}
	return pid > first && pid <= last
}

func (c *corpses) has(pid int) bool {
	_, dead := c.pids[pid]
	return dead
}

func (c *corpses) add(pid int) {
	if c.since.leader == 0 {
		return
	}
	if c.pids == nil {
		c.pids = make(map[int]struct{})
	}
	c.pids[pid] = struct{}{}
}

// begin forgets the corpses whose numbers may have been given out again.
func (t *roster) begin() { t.corpses.look() }

// exited reports whether the process of the tree that has the number, or had it, runs no more.
func (t *roster) exited(pid int) bool {
	if t.corpses.has(pid) || t.exitedChild(pid) {
		return true
	}
	fd, err := sys.PidfdOpen(pid)
	if err != nil {
		return sys.Gone(err)
	}
	defer sys.Close(fd)
	return t.exitedPidfd(pid, fd)
}

// exitedChild reports whether pid is a zombie that we have to reap, where there may be such: that takes a
// quarter of the time of a pidfd, and a twentieth of /proc/PID/stat.
func (t *roster) exitedChild(pid int) bool {
	if !t.adopts && !t.siblings {
		return false
	}
	exited, err := sys.ExitedUnreaped(pid)
	if err != nil || !exited {
		return false
	}
	t.corpses.add(pid)
	return true
}

// exitedPidfd reports whether the process of the pidfd, which has the number, has exited.
func (t *roster) exitedPidfd(pid, fd int) bool {
	found, err := sys.Ready(fd)
	if err != nil || !found.Readable {
		return false
	}
	t.corpses.add(pid)
	t.noteAdopted(pid)
	return true
}

// noteAdopted has a member that died as our child be reaped by us. That happens without any adoption:
// with CLONE_PARENT, clone(2), the leader makes children of ours.
func (t *roster) noteAdopted(pid int) {
	if t.adopts || t.siblings {
		return
	}
	if exited, err := sys.ExitedUnreaped(pid); err == nil && exited {
		t.siblings = true
	}
}
