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

// A Root is a process that somebody else may have started and may reap. Nothing pins its number, so
// that it is held by a pidfd, and where there are none is told by its start time.
type Root struct {
	Process
	fd     int // pidfd; -1 where there are none
	parent int // when it was first looked at; 0 if unknown
}

// ErrNoProcess says that there is no such process, or none that began at the given time.
var ErrNoProcess = errors.New("no such process")

// A ProtectedError says why a process is not to be ended.
type ProtectedError string

func (e ProtectedError) Error() string { return string(e) }

// ErrForeign says that /proc shows another PID namespace, in which the number means another process.
var ErrForeign = errors.New("/proc shows another PID namespace")

// Hold holds the process that has pid now, if it began at the given time; 0 is any. Who shall not be
// signaled is a [ProtectedError].
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
	case !sys.NoPidfds(err): // for want of descriptors or memory: the next question might be answered
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

// HoldProcess holds what an os.Process means. Its own pidfd is not shared: Wait closes that.
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
	case r.fd < 0: // it knows whether somebody waited for it, and nobody else may have: it is a child
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

// identify reads what the process is, and compares it.
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
		return ErrNoProcess // or it cannot be told which one it is
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

// failed reports whether err, of reading what /proc has of a process, says nothing of the process, which
// is neither gone nor hidden: it could not be read, for want of descriptors perhaps.
func failed(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission)
}

// kernelThread is PF_KTHREAD of the flags in proc_pid_stat(5).
const kernelThread = 0x00200000

// ancestor reports whether some ancestor of ours is one that is asked for, as far up as can be seen.
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
			parent = os.Getppid() // somebody else stands above us now
		default:
			return false, nil // hidden
		}
	}
	return parent > 1, nil // it cannot be told
}

func gone(pid int) bool {
	_, err := sys.Session(pid)
	return sys.Gone(err)
}

// maxAncestors is more than anybody has: the numbers change while they are followed, and could do so
// in a circle.
const maxAncestors = 1 << 12

// noSignal asks whether one could be sent.
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
// exits. What it is found by: the session that the root leads, or what has lost its parent in the group
// that it leads; the parents; the mark of the run of this process that the root leads; and a limit mark of
// its own that whoever is found is given, so that nobody who is born from then on is lost.
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

// Gather finds the tree and marks it: the root first, and then everybody as soon as found, so that whoever
// is born meanwhile is marked, or is the child of somebody who is found next. Once over reports true it begins no other
// look. A [ProtectedError] says that we are in the tree ourselves.
func (t *Tree) Gather(over func() bool) error {
	t.mark.run = t.ownRun()
	if err := t.notOurs(); err != nil {
		return err
	}
	t.strays = !t.mark.LimitRoot(t.root)
	t.seeking = true
	t.gather(over)
	err := t.notOurs() // a parent may be known by now, and is asked for as long as we seek
	t.seeking = false
	return err
}

func (t *tracker) notOurs() error {
	t.askLeader()
	var unread error
	within := func(pid int) bool { // whom a look has found does not suffice: it may have been cut short
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

// ownRun returns the number of the run that the root leads, 0 if it leads none that is known of. All of
// a run inherit its mark, so that to bear it is not to lead it. Who leads the runs of this process is
// known. Of others it cannot be: a daemon that lost its parent looks the same as a leader, in a session of
// its own, without anybody above it who bears the mark, as soon as a subreaper and not the first
// process has adopted it, which nothing tells of. So their numbers are not gone by.
func (t *tracker) ownRun() uint32 {
	id := runLedBy(t.leader)
	if id == 0 {
		return 0
	}
	soft, _, err := sys.RTTimeLimit(t.leader) // a leader that was reaped has left its number to somebody
	outer, inner, marked := runsOf(soft)
	if err != nil || !marked || outer != id && inner != id || !t.root.exists() {
		return 0
	}
	return id
}

// orphans is the track of the process group's number for a root that leads a group and no session. The
// other members of a job that a shell has made, a | b, are in the group and not in the tree: they are
// children of the shell, which is in the same session, or of whoever has adopted them when the shell
// exited, and so the root with them. So only who has no parent in the session counts, or has the first
// process as its parent (in a container all are in one session), and none that is the root's as well.
// Its holes: setpgid(2), orphans that the root's own parent adopts, and those who are not found before the
// root is reaped. And it takes an orphan that another
// command of the job has left for one of the root's.
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
	now, err := procfs.ReadStatNoComm(root.PID) // after the candidate's: they are adopted together
	if err != nil || !root.exists() || st.PPID == now.PPID || st.PPID == root.parent {
		return unknown
	}
	sid, err := sys.Session(st.PPID)
	if st.PPID == 0 || st.PPID == 1 && root.parent > 1 || err == nil && sid != st.Session {
		return ours
	}
	return unknown
}
