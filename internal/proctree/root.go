package proctree

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Root is a process that another program may have started and may reap. Nothing pins its number, so a
// pidfd holds it; without pidfds its start time identifies it.
type Root struct {
	Process
	fd     int // pidfd; -1 where there are none
	parent int // when it was first looked at; 0 if unknown
}

// ErrNoProcess says that there is no such process, or none that began at the given time.
var ErrNoProcess = errors.New("no such process")

// A ProtectedError says why a process must not be ended.
type ProtectedError string

func (e ProtectedError) Error() string { return string(e) }

// ErrForeign says that /proc shows another PID namespace, in which the number means another process.
var ErrForeign = errors.New("/proc shows another PID namespace")

// Hold holds the process that has pid now, if it began at the given time; 0 is any. The error is a
// [ProtectedError] for a process that must not be signaled.
func Hold(pid int, start uint64) (*Root, error) {
	switch {
	case pid <= 0:
		return nil, ProtectedError(fmt.Sprintf("%d is no process ID", pid))
	case pid == 1:
		return nil, ProtectedError("it is the first process")
	}
	if procfs.Foreign() {
		return nil, ErrForeign
	}
	r := &Root{Process: Process{PID: pid}, fd: -1}
	fd, err := sys.PidfdOpen(pid)
	switch {
	case err == nil:
		r.fd = fd
	case sys.Gone(err), sys.IsThread(err):
		return nil, ErrNoProcess
	case !sys.NoPidfds(err): // for want of descriptors or memory: another try may succeed
		return nil, err
	case isThread(pid):
		return nil, ErrNoProcess
	}
	if err := r.identify(start); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// HoldProcess holds the process of an os.Process, by a pidfd of its own: Wait closes that of p.
func HoldProcess(p *os.Process) (*Root, error) {
	if p.Pid <= 1 {
		return Hold(p.Pid, 0)
	}
	r := &Root{Process: Process{PID: p.Pid}, fd: -1}
	var err, full error
	if sys.Enabled(sys.Pidfd) {
		err = p.WithHandle(func(h uintptr) { r.fd, full = sys.Dup(int(h)) })
	}
	switch {
	case errors.Is(err, os.ErrProcessDone):
		return nil, ErrNoProcess
	case full != nil:
		return nil, full
	case r.fd < 0: // it is a child of ours, for which only this program can have waited, and p knows
		if errors.Is(p.Signal(noSignal), os.ErrProcessDone) {
			return nil, ErrNoProcess
		}
		return Hold(p.Pid, 0)
	}
	if err := r.identify(0); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// identify reads what the process is, and checks that it may be ended and is the one that began at start.
func (r *Root) identify(start uint64) error {
	st, err := procfs.ReadStat(r.PID)
	if err == nil {
		r.Start, r.Name, r.parent = st.StartTime, st.Comm, st.PPID
	} else if failed(err) {
		return err
	}
	above, failure := ancestor(func(pid int) bool { return pid == r.PID })
	switch {
	case start != 0 && r.Start != start, !r.exists():
		return ErrNoProcess // or which process it is cannot be told
	case err == nil && st.Flags&kernelThread != 0:
		return ProtectedError("it is a thread of the kernel")
	case r.PID == os.Getpid():
		return ProtectedError("it is this process")
	case failure != nil:
		return failure
	case above:
		return ProtectedError("this process descends from it")
	}
	return nil
}

// failed reports whether err, of reading a file of a process in /proc, says nothing about the process, neither
// that it is gone nor that it is hidden: the reading failed, for want of descriptors perhaps.
func failed(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
}

// kernelThread is PF_KTHREAD of the flags in proc_pid_stat(5).
const kernelThread = 0x00200000

// ancestor reports whether an ancestor of ours is what is asked for, as far up as it can see.
func ancestor(is func(pid int) bool) (bool, error) {
	parent := os.Getppid()
	for steps := 0; parent > 1 && steps < maxAncestors; steps++ {
		if is(parent) {
			return true, nil
		}
		st, err := procfs.ReadStatNoComm(parent)
		switch {
		case err == nil:
			parent = st.PPID
		case failed(err):
			return false, err
		case gone(parent):
			parent = os.Getppid() // we have another parent now
		default:
			return false, nil // hidden
		}
	}
	return parent > 1, nil // unknown, if there are more
}

func gone(pid int) bool {
	_, err := sys.Session(pid)
	return sys.Gone(err)
}

// maxAncestors is more than any process has. The numbers change while ancestor follows them, and could lead
// in a circle.
const maxAncestors = 1 << 12

// noSignal asks whether a signal could be sent.
const noSignal = syscall.Signal(0)

// exists reports whether the process has not been reaped, so that its number still means it.
func (r *Root) exists() bool {
	if r.fd >= 0 {
		return !sys.Gone(sys.PidfdSignal(r.fd, noSignal))
	}
	if r.Start == 0 { // there is no /proc, or it hides the process
		return !gone(r.PID)
	}
	st, err := procfs.ReadStatNoComm(r.PID)
	return err == nil && st.StartTime == r.Start
}

// Close lets go of the process.
func (r *Root) Close() {
	if r.fd >= 0 {
		sys.Close(r.fd)
		r.fd = -1
	}
}

// InitBelow makes t the tree of a root and its descendants. The root is a member like others, until it
// exits. The tracks are the session that the root leads, or the orphans in the group that it leads; the
// parents; the mark of the run of this process that the root leads; and a limit mark of its own, which each
// process is given when it is found, so that none born from then on is lost.
func (t *Tree) InitBelow(root *Root, mark *Mark, leaving func(*Member)) {
	*t = Tree{}
	t.head = head{leader: root.PID, root: root, start: root.Start, apart: true}
	t.leaving, t.adopts = leaving, sys.Adopts()
	t.mark = mark
	t.born = birth{leader: root.PID} // long ago: every process is a candidate
	t.tracks = []track{limitTrack{}, parent{}}
	sid, err := sys.Session(root.PID)
	if err == nil && sid == root.PID {
		t.tracks, t.number = []track{limitTrack{}, session{}, parent{}}, TrackSession
		t.apart = root.fd < 0 || sys.PidfdSignalGroup(root.fd, noSignal) != nil
	} else if pgid, err := sys.Group(root.PID); err == nil && pgid == root.PID {
		t.tracks, t.number = append(t.tracks, orphans{}), TrackGroup
	}
	m := &Member{Process: root.Process, FD: -1}
	if fd, err := sys.PidfdOpen(root.PID); err == nil {
		m.FD = fd
	}
	if !root.exists() || t.dead(m) {
		closeFD(m)
		return
	}
	t.members = map[int]*Member{root.PID: m}
}

// Gather finds the tree and marks it: the root first, then each process as it is found, so that one born
// meanwhile is marked, or is the child of one that is found next. Gather begins no other look once over, asked
// after each, reports true. The error is a [ProtectedError] if this process is in the tree.
func (t *Tree) Gather(over func() bool) error {
	t.mark.run = t.ownRun()
	if err := t.notOurs(); err != nil {
		return err
	}
	t.strays = !t.mark.LimitRoot(t.root)
	t.seeking = true
	t.gather(over)
	err := t.notOurs() // again: a parent of ours may be known by now, and counts while seeking
	t.seeking = false
	return err
}

func (t *tracker) notOurs() error {
	t.askLeader()
	var unread error
	within := func(pid int) bool { // the members do not suffice: the look may have been cut short
		ours := t.members[pid] != nil || t.judge(pid, anywhere) == ours
		if failed(t.asked.statErr) {
			unread = t.asked.statErr
		}
		return ours
	}
	we := within(os.Getpid())
	above, err := ancestor(within)
	switch {
	case we || above:
		return ProtectedError("this process is in its tree")
	case unread != nil:
		return unread
	}
	return err
}

// ownRun returns the number of the run that the root leads, 0 if it leads none of this process. Only for
// those the leaders are known. The whole run inherits the mark, so that bearing it does not make a leader. And
// a daemon that lost its parent looks like a leader: it has a session of its own, and no process above it bears
// the mark, if a subreaper adopted it and not the first process, which nothing shows. So the runs of other
// programs do not count.
func (t *tracker) ownRun() uint32 {
	id := runLedBy(t.leader)
	if id == 0 {
		return 0
	}
	soft, _, err := sys.RTTimeLimit(t.leader) // if the leader was reaped, another process may have its number
	outer, inner, marked := runsOf(soft)
	if err != nil || !marked || outer != id && inner != id || !t.root.exists() {
		return 0
	}
	return id
}

// orphans is the track of the process group's number for a root that leads a group and no session. The other
// commands of a shell's job, a | b, are in the group and not in the tree: they are children of the shell, which
// is in the same session, or of the process that adopted them, and the root with them, when the shell exited.
// So a process counts only if its parent is in another session, or is the first process (in a container all may
// be in one session), and is not the root's parent as well.
//
// Its holes: setpgid(2), orphans that the root's own parent adopts, and those that are not found before the root
// is reaped. And it takes an orphan that another command of the job has left for one of the root's.
type orphans struct{}

func (orphans) judge(c *candidate) verdict {
	if group := (group{}).judge(c); group != ours {
		return group
	}
	st, err := c.readStat()
	if err != nil || c.older() {
		return unknown
	}
	root := c.tree.root
	now, err := procfs.ReadStatNoComm(root.PID) // after the candidate's: one process adopts both
	if err != nil || !root.exists() || st.PPID == now.PPID || st.PPID == root.parent {
		return unknown
	}
	sid, err := sys.Session(st.PPID)
	if st.PPID == 0 || st.PPID == 1 && root.parent > 1 || err == nil && sid != st.Session {
		return ours
	}
	return unknown
}
