package proctree

import (
	"cmp"
	"slices"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// used is what is known of what a tree has used, beside what is to be seen.
type used struct {
	found  int // members, ever
	reaped int // by us, the leader aside
	total  sys.Usage
}

func (t *roster) noteReaped(u sys.Usage) {
	t.used.reaped++
	t.used.total.Add(u)
}

// Reaped returns what those have used that ReapAdopted has reaped.
func (t *roster) Reaped() sys.Usage { return t.used.total }

// Born returns how many processes the tree had, at least: those that were found, or reaped, and the leader.
func (t *roster) Born() int { return 1 + max(t.used.found, t.used.reaped) }

// maxUsed is how many members Used asks, the oldest: it reads two files of each, between the look and the signal.
const maxUsed = 256

// Used returns what the leader and the members that the last look found have used, with the children that they waited
// for. It reports false if it can see nothing.
//
// It counts no process twice, however many die meanwhile: it asks the older first, and a process is older than the
// children that it waits for, or adopts. A child that is reaped after that can no longer be asked. So the tree has used
// at least that much. Used stops at the end of the look's time: a signal may follow.
func (t *search) Used() (sum sys.Usage, some bool) {
	if !Enumerates || t.root != nil || procfs.Foreign() {
		return sys.Usage{}, false
	}
	if u, _, err := usedBy(t.leader); err == nil && t.Pinned() {
		sum, some = u, true
	}
	members := t.list()
	slices.SortFunc(members, func(a, b *Member) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	for _, m := range members[:min(len(members), maxUsed)] {
		if t.late() {
			break
		}
		if u, start, err := usedBy(m.PID); err == nil && start == m.Start {
			sum.Add(u)
			some = true
		}
	}
	return sum, some
}

// usedBy returns what the process that has pid has used, and when it began. What it has read and written is not
// asked for: /proc/PID/io waits for a process in the middle of an execve(2), which may never be over.
func usedBy(pid int) (u sys.Usage, start uint64, err error) {
	u.Peak, err = procfs.ReadPeak(pid) // first: the start time that is read later vouches for it
	if err != nil {
		return sys.Usage{}, 0, err
	}
	st, err := procfs.ReadUsage(pid)
	if err != nil {
		return sys.Usage{}, 0, err
	}
	u.User, u.System = procfs.Ticks(st.User), procfs.Ticks(st.System)
	return u, st.StartTime, nil
}

// Peak returns the most that this process had in memory, 0 if that is not to be seen.
func Peak() int64 {
	if !Enumerates {
		return 0
	}
	n, err := procfs.ReadPeak(procfs.Self)
	if err != nil {
		return 0
	}
	return n
}
