package proctree

import (
	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A cell has the cgroup that the leader was born in.
type cell struct {
	tracker
	leaf *cgroup.Leaf // nil without one
}

// contained admits the processes of the leaf, and reports whether the kernel says that there are none; sure is false
// if there are some that it could not name: the list is one of a moment, and a process on it may have forked and
// exited since. Only the kernel's word proves the leaf empty. So this track has no hole but a process that may write
// to another cgroup, which the other tracks still find.
func (t *cell) contained() (sure, vacant bool) {
	if t.leaf == nil {
		return true, false
	}
	populated, err := t.leaf.Populated()
	if err == nil && populated {
		err = t.leaf.PIDs(func(pid int) bool {
			if pid != t.leader && t.members[pid] == nil {
				t.addContained(pid)
			}
			return true
		})
	}
	return err == nil && (!populated || t.namesContained() || t.standing() == running), err == nil && !populated
}

// namesContained reports whether a process in the leaf beside the leader is known. It reads that again while
// the tree is killed: a member that has left the leaf, and cannot be killed, must not stand for those in it.
func (t *cell) namesContained() bool {
	for _, m := range t.members {
		if m.contained && t.killing {
			m.contained = t.leaf.Contains(m.PID)
		}
		if m.contained {
			return true
		}
	}
	return false
}

// addContained admits pid, which the leaf has listed. Whether it is in there is asked again once the
// pidfd is open: until then the number may have changed hands.
func (t *cell) addContained(pid int) {
	m := &Member{Process: Process{PID: pid}, FD: -1, contained: true}
	fd, err := sys.PidfdOpen(pid)
	if err == nil {
		m.FD = fd
	}
	parent := m.identify()
	if sys.Gone(err) || !t.leaf.Contains(pid) {
		closeFD(m)
		return
	}
	t.admit(m, parent)
}

// Tracks returns the tracks that are in force.
func (t *cell) Tracks() Tracks {
	if !Enumerates {
		return 0
	}
	tracks := t.mark.tracks | t.number | TrackParent
	if t.leaf != nil {
		tracks |= TrackCgroup
	}
	if t.adopts {
		tracks |= TrackAdoption
	}
	return tracks
}

// inhabited admits the processes of the leaf, and reports whether there are any beside the leader.
func (t *cell) inhabited() bool {
	if t.leaf == nil || !sys.Enabled(sys.Sweep) {
		return false
	}
	if len(t.members) > 0 {
		t.corpses.look()
		t.forgetDead()
	}
	t.contained()
	return t.namesContained()
}

// Quiet calls f while the cgroup is frozen, so that a look finds every process in it and a signal reaches
// each, however fast they fork, and however many they are on however few processors. A process that has
// not stopped by then is looked at running, as without a cgroup.
func (t *cell) Quiet(f func()) {
	if t.leaf != nil {
		if thaw, err := t.leaf.Freeze(); err == nil {
			defer thaw()
		}
	}
	f()
}

// KillLeaf sends SIGKILL to all processes in the leaf, in one write, and calls each with those that it
// knows. It reports whether it did; if it fails, they are members like others.
func (t *cell) KillLeaf(each func(*Member)) bool {
	if t.leaf == nil || t.leaf.Kill() != nil {
		return false
	}
	t.killing = true
	for _, m := range t.members {
		if m.contained {
			each(m)
		}
	}
	return true
}
