package diagnose

import (
	"slices"
	"strings"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

func (c *collector) allLocks() []procfs.Lock {
	if !c.locksRead {
		c.locksRead = true
		c.locks, _ = procfs.ReadLocks()
	}
	return c.locks
}

// lockHolders finds who holds the lock that the call waits for: the row of /proc/locks that says that
// this process waits bears the number of the row that is in its way.
func (d *decoder) lockHolders(kind procfs.LockKind) {
	fd := d.fd(0)
	info, _ := d.c.fdInfo(d.p.PID, d.t.TID, fd)
	locks := d.c.allLocks()
	for _, waiting := range locks {
		if !waiting.Blocked || waiting.Kind != kind {
			continue
		}
		// An OFD lock belongs to no process: the file has to do.
		if kind != procfs.LockOFD && waiting.PID != d.p.PID || info.Inode != 0 && waiting.Inode != info.Inode {
			continue
		}
		for _, held := range locks {
			if held.ID == waiting.ID && !held.Blocked {
				d.addHolder(held)
			}
		}
	}
}

// addHolder names the holders of a lock. The process that took it may have ended, and left the open file,
// and thereby the lock, to others; fdinfo says which processes have such a file.
func (d *decoder) addHolder(held procfs.Lock) {
	add := func(pid int) {
		if pid > 0 && !slices.Contains(d.call.Holders, pid) {
			d.call.Holders = append(d.call.Holders, pid)
			d.c.want(pid)
		}
	}
	if st, err := procfs.ReadStat(held.PID); held.PID > 0 && err == nil && st.Alive() {
		add(held.PID)
		return
	}
	for _, r := range d.call.FDs {
		for _, end := range d.c.ends.any(r.Path, d.p.PID) {
			if end.PID == d.p.PID {
				continue
			}
			info, err := procfs.ReadFDInfo(end.PID, end.FD)
			if err == nil && slices.ContainsFunc(info.Locks, func(l procfs.Lock) bool { return l.Kind == held.Kind }) {
				add(end.PID)
			}
		}
	}
}

// lockPolled is for programs that try a lock again and again, and sleep in between: SQLite does. A
// file that the process has open, and that another process has open too and locked for writing, is
// what such a sleep is about.
func (d *decoder) lockPolled() {
	locks := d.c.allLocks()
	if !slices.ContainsFunc(locks, func(l procfs.Lock) bool { return l.PID != d.p.PID }) {
		return
	}
	_ = procfs.WalkThreadFDs(d.p.PID, d.t.TID, func(fd int, link []byte) bool {
		if !strings.HasPrefix(string(link), "/") || strings.HasPrefix(string(link), "/dev/") {
			return true
		}
		info, ok := d.c.fdInfo(d.p.PID, d.t.TID, fd)
		if !ok || info.Inode == 0 {
			return true
		}
		for _, l := range locks {
			if l.Inode != info.Inode || l.PID == d.p.PID || l.Mode != procfs.LockWrite || l.Blocked {
				continue
			}
			if !slices.ContainsFunc(d.c.ends.any(string(link), d.p.PID), func(e End) bool { return e.PID == l.PID }) {
				continue // another file of that number
			}
			if !slices.Contains(d.call.Holders, l.PID) {
				d.call.Holders = append(d.call.Holders, l.PID)
				d.call.FDs = append(d.call.FDs, Descriptor{FD: fd, Kind: "file", Path: string(link), Inode: l.Inode,
					Filled: -1, Size: -1, Unread: -1, Unsent: -1, Silent: -1})
				d.call.Polls = true
				d.c.want(l.PID)
			}
		}
		return len(d.call.FDs) < maxWatched
	})
}
