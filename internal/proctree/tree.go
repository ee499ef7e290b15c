// Package proctree finds the processes of a command's tree, signals them, and proves them gone.
//
// A tree is found by tracks, each a way to tell from a PID alone whether the process belongs to the
// tree. The PIDs worth asking about are those of the birth window.
package proctree

import (
	"os"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Process names one process for good: a PID alone is reused.
type Process struct {
	PID   int
	Start uint64 // clock ticks since boot, field 22 of /proc/PID/stat; 0 if unreadable
	Name  string // the kernel's name of it, 15 bytes at most; empty if unreadable
}

// A Member is a live process of the tree, other than the leader.
type Member struct {
	Process
	// FD is a pidfd, -1 where there are none; it becomes readable at death. The Tree owns it.
	FD int
}

// A track tells the tree's processes from all others.
type track interface {
	// claims reports whether pid belongs to the tree. It may be asked about any number, used or
	// not, and must not be fooled by reuse: what it goes by is either pinned by the unreaped
	// leader or names this run alone.
	claims(pid int) bool
}

// A Tree is a leader, which this process started and has not reaped, and all its descendants. It
// belongs to one goroutine.
type Tree struct {
	leader  int
	process *os.Process
	leaving func(*Member) // called before a member's pidfd is closed; may be nil
	tracks  []track
	known   [1]track // what tracks points to
	born    birth
	members map[int]*Member // alive when last looked at
	spare   []*Member       // what Live returned last
}

// Init makes t the tree of a leader that was just started in a session of its own. The leader's
// number, which is also its group's and its session's, stays pinned until it is reaped.
func (t *Tree) Init(process *os.Process, started time.Time, leaving func(*Member)) {
	*t = Tree{
		leader:  process.Pid,
		process: process,
		leaving: leaving,
		born:    birth{leader: process.Pid, started: started},
	}
	t.tracks = append(t.known[:0], session(t.leader))
}

// session is the track of a session id. The unreaped leader pins the number, so that whoever has
// it for a session descends from the leader.
type session int

func (s session) claims(pid int) bool {
	sid, err := sys.Session(pid)
	return err == nil && sid == int(s)
}

// Live looks for members of the tree that are alive, without the leader. Members that were found
// earlier are looked at again. It reports false where it could not look at everybody, so that finding
// nobody proves nothing. The slice is valid until the next call.
func (t *Tree) Live() ([]*Member, bool) {
	if !Enumerates {
		return nil, true
	}
	if len(t.members) == 0 && t.born.childless() {
		return nil, true
	}
	t.spare = t.spare[:0]
	for pid, m := range t.members {
		if t.dead(m) {
			t.forget(pid)
		}
	}
	sure := true
	if len(t.members) > 0 || t.Pinned() {
		sure = t.born.candidates(t.consider, func() bool { return len(t.members) > 0 })
	}
	for _, m := range t.members {
		t.spare = append(t.spare, m)
	}
	return t.spare, sure
}

// consider admits pid if it belongs to the tree. What it goes by, the session's number, is pinned by
// the unreaped leader, or by a member: where there is neither, Live does not ask.
func (t *Tree) consider(pid int) {
	if pid != t.leader && t.members[pid] == nil && t.claimed(pid) {
		t.add(pid)
	}
}

func (t *Tree) claimed(pid int) bool {
	for _, tr := range t.tracks {
		if tr.claims(pid) {
			return true
		}
	}
	return false
}

// add admits pid. The claim is repeated once the pidfd is open: until then the number may have
// changed hands, from then on the pidfd means one process.
func (t *Tree) add(pid int) {
	m := &Member{Process: Process{PID: pid}, FD: -1}
	fd, err := sys.PidfdOpen(pid)
	switch {
	case err == nil:
		m.FD = fd
	case sys.Gone(err), sys.IsThread(err), isThread(pid):
		return
	}
	if !t.claimed(pid) || t.dead(m) {
		closeFD(m)
		return
	}
	if len(t.members) >= maxPidfds {
		closeFD(m)
	}
	if st, err := procfs.ReadStat(pid); err == nil {
		m.Start, m.Name = st.StartTime, st.Comm
	}
	if t.members == nil {
		t.members = make(map[int]*Member)
	}
	t.members[pid] = m
}

// maxPidfds is how many members are held by a pidfd. The rest go by start time and session: a command
// must not use up this process's descriptors by forking.
const maxPidfds = 64

// isThread reports whether pid is that of a thread other than its process's first. System calls that
// take a PID take those as well, and answer for the process.
func isThread(pid int) bool {
	st, err := procfs.ReadStatus(pid)
	return err == nil && st.TGID != pid
}

// dead reports whether m has exited. A zombie is dead: it runs nothing and holds nothing. A pidfd
// says so without /proc and is not fooled by a thread group whose first thread has exited.
func (t *Tree) dead(m *Member) bool {
	if m.FD >= 0 {
		found, err := sys.Ready(m.FD)
		return err == nil && found.Readable
	}
	if !t.claimed(m.PID) {
		return true // or it left the session, which can not be told from another process
	}
	st, err := procfs.ReadStat(m.PID)
	if err != nil {
		// Unreadable is not gone: under hidepid other users' processes can not be seen.
		_, err := sys.Session(m.PID)
		return sys.Gone(err)
	}
	return !st.Alive() || m.Start != 0 && st.StartTime != m.Start
}

// Gone says that a member was seen to die.
func (t *Tree) Gone(m *Member) { t.forget(m.PID) }

func (t *Tree) forget(pid int) {
	if m := t.members[pid]; m != nil {
		if t.leaving != nil {
			t.leaving(m)
		}
		closeFD(m)
		delete(t.members, pid)
	}
}

func closeFD(m *Member) {
	if m.FD >= 0 {
		sys.Close(m.FD)
		m.FD = -1
	}
}

// Signal sends sig to one member. Without a pidfd its start time is compared first, which leaves
// a gap of microseconds in which the number would have to be freed and reused.
func (t *Tree) Signal(m *Member, sig syscall.Signal) error {
	if m.FD >= 0 {
		return sys.PidfdSignal(m.FD, sig)
	}
	if t.dead(m) {
		return syscall.ESRCH
	}
	return sys.Kill(m.PID, sig)
}

// SignalGroup sends sig to the leader's process group, atomically against fork: no process that
// is in the group at that moment is missed. The number is pinned by the leader, alive or zombie,
// which only we reap. Where somebody else reaps, nothing pins it, and nothing is sent, unless the
// kernel can signal a group through its leader's pidfd (6.9, PIDFD_SIGNAL_PROCESS_GROUP).
func (t *Tree) SignalGroup(sig syscall.Signal) error {
	var err error
	if t.LendPidfd(func(fd int) { err = sys.PidfdSignalGroup(fd, sig) }) && (err == nil || sys.Gone(err)) {
		return err
	}
	if !t.Pinned() {
		return syscall.ESRCH
	}
	return sys.Kill(-t.leader, sig)
}

// Pinned reports whether the leader's number still means the leader: it is our child, alive or a
// zombie. It is not once somebody else has reaped it, or the kernel itself where SIGCHLD is ignored.
func (t *Tree) Pinned() bool {
	_, err := sys.ExitedUnreaped(t.leader)
	return err == nil
}

// Close releases the descriptors. It is called before the leader is reaped.
func (t *Tree) Close() {
	for pid := range t.members {
		t.forget(pid)
	}
}
