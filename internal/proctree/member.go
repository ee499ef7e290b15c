package proctree

import (
	"os"
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Member is a live process of the tree, other than the leader.
type Member struct {
	Process
	// FD is a pidfd, -1 where there are none; it becomes readable at death. The Tree owns it.
	FD int

	// Err is why the last signal could not be sent; nil if it was.
	Err error

	contained bool // it was found in the leaf
	stopped   bool // by freeze
	killed    bool // by Kill
}

// A roster has the members that are known.
type roster struct {
	head
	members  map[int]*Member // alive when last looked at
	spare    []*Member       // what Live returned last
	leaving  func(*Member)   // see Origin
	pidfds   int             // how many may be held while Kill is under way; 0 at other times
	killing  bool            // SIGKILL was sent: most of the members are dead by now
	corpses  corpses
	adopts   bool // orphans become our children
	siblings bool // some of the tree are children of ours
	used     used
}

// add admits pid. The verdict is repeated once the pidfd is open: until then the number may have
// changed hands, from then on the pidfd means one process. Without one the start time does, so that it is read before.
func (t *search) add(pid int, from origin) {
	if t.exitedChild(pid) {
		return
	}
	m := &Member{Process: Process{PID: pid}, FD: -1}
	fd, err := sys.PidfdOpen(pid)
	switch {
	case err == nil:
		m.FD = fd
	case sys.Gone(err), sys.IsThread(err), isThread(pid):
		return
	}
	if m.FD >= 0 && t.exitedPidfd(pid, m.FD) { // most of the tree, where PID 1 is slow to reap
		closeFD(m)
		return
	}
	parent := m.identify()
	if t.judge(pid, from) != ours || pid == os.Getpid() {
		closeFD(m)
		return
	}
	t.admit(m, parent)
}

// identify reads the identity of the process that has the number, and returns its parent's number.
func (m *Member) identify() (parent int) {
	st, err := procfs.ReadStat(m.PID)
	if err == nil {
		m.Start, m.Name = st.StartTime, st.Comm
	}
	return st.PPID
}

// admit makes m, which was identified and belongs to the tree, a member if it lives.
func (t *tracker) admit(m *Member, parent int) {
	if t.dead(m) {
		t.noteAdopted(m.PID)
		closeFD(m)
		return
	}
	if parent == os.Getpid() {
		t.siblings = true // see noteAdopted
	}
	if m.FD < 0 && m.Start == 0 {
		t.blurred = true // nothing tells it from the next process with its number
		return
	}
	t.adopt(m)
	if m.Start != 0 && len(t.members) >= max(t.pidfds, fewPidfds()) {
		closeFD(m)
	}
	if t.members == nil {
		t.members = make(map[int]*Member)
	}
	t.members[m.PID] = m
	t.used.found++
}

// maxPidfds is how many members are held by a pidfd. The rest go by start time: a command must not
// use up this process's descriptors by forking.
const maxPidfds = 64

// fewPidfds is maxPidfds, or less where many trees share the descriptors.
func fewPidfds() int {
	if n := sharing(); n > 1 {
		return min(maxPidfds, sys.OpenFilesMax()/2/n)
	}
	return maxPidfds
}

// manyPidfds is how many are held for the moments of killing, as far as there is plenty: to signal and to
// watch a process by its start time takes ten times as long.
func manyPidfds() int { return max(fewPidfds(), sys.OpenFilesMax()/8/sharing()) }

// sharers is set by Share.
var sharers atomic.Int32

// Share says how many trees this process is about to end at once.
func Share(trees int) { sharers.Store(int32(trees)) }

func sharing() int { return max(1, int(sharers.Load())) }

// keep keeps a pidfd that was opened for m, or closes it.
func (t *roster) keep(m *Member, fd int) {
	m.FD = fd
	if t.members[m.PID] != m || len(t.members) > t.pidfds {
		closeFD(m)
	}
}

// isThread reports whether pid is that of a thread other than its process's first. System calls that
// take a PID take those as well, and answer for the process.
func isThread(pid int) bool {
	st, err := procfs.ReadStatus(pid)
	return err == nil && st.TGID != pid
}

// dead reports whether m has exited. A zombie is dead: it runs nothing and holds nothing. A pidfd
// says so without /proc and is not fooled by a thread group whose first thread has exited.
func (t *roster) dead(m *Member) bool {
	if m.FD >= 0 {
		found, err := sys.Ready(m.FD)
		return err == nil && found.Readable
	}
	st, err := procfs.ReadStatNoComm(m.PID)
	if err != nil {
		// Unreadable is not gone: under hidepid other users' processes cannot be seen.
		_, err := sys.Session(m.PID)
		return sys.Gone(err)
	}
	return !st.Alive() || st.StartTime != m.Start
}

func (t *roster) list() []*Member {
	t.spare = t.spare[:0]
	for _, m := range t.members {
		t.spare = append(t.spare, m)
	}
	return t.spare
}

func (t *roster) found() bool { return len(t.members) > 0 }

func (t *roster) forgetDead() {
	for pid, m := range t.members {
		if t.killing && m.FD < 0 && t.exited(pid) || t.dead(m) {
			t.forget(pid)
		}
	}
}

// Gone says that a member was seen to die.
func (t *roster) Gone(m *Member) { t.forget(m.PID) }

func (t *roster) forget(pid int) {
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
