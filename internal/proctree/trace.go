package proctree

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Trace is what a tree can be found by again, by another process than the one that started it. It
// holds for one boot of the machine and one PID namespace.
type Trace struct {
	PID   int    `json:"pid"`   // the leader; 0 if unknown
	Start uint64 `json:"start"` // its start time in ticks; or a time not after it, if PID is 0
	Limit uint64 `json:"limit"` // the limit mark; 0 if the leader does not have it
	// Outer is the number beside ours in there, if that is ours as well; 0 if it is a run's around
	// this one, which would take that run's other processes for ours.
	Outer   uint32 `json:"outer"`
	Environ string `json:"environ"`         // the value of the environment mark; empty if there is none
	Slice   uint64 `json:"slice,omitempty"` // the slice mark, in nanoseconds; 0 if there is none
}

// Trace returns what the tree of the run is found by. The leader was started, or pid is 0.
func (m *Mark) Trace(leader Process) Trace {
	tr := Trace{PID: leader.PID, Start: leader.Start, Limit: m.limit, Environ: m.env, Slice: m.slice}
	if m.limit != 0 && m.outer() == m.half {
		tr.Outer = m.half
	}
	return tr
}

// Trace returns what identifies the tree, whose leader was started. Its Start is 0 if that cannot be read.
func (t *tracker) Trace() Trace {
	return t.mark.Trace(Process{PID: t.leader, Start: t.leaderStart()})
}

// Foresee returns what will identify the tree of the run whose leader this thread is about to start: the leader is
// born with the slice, and has the limit and the environment a moment later. A caller that is not locked to its thread
// may start it on another, whose slice is the same unless the program gives its threads slices of their own.
func (m *Mark) Foresee() Trace {
	tr := Trace{Environ: m.env}
	if soft, _, err := sys.RTTimeLimit(0); err == nil {
		outer := m.outerBeside(soft)
		tr.Limit = limitOf(outer, m.id)
		if outer == m.half {
			tr.Outer = outer
		}
	}
	if own, err := sys.ScheduleOf(0); err == nil && own.Slice() != 0 && !noSlices.Load() {
		tr.Slice = own.Slice() + uint64(m.id&sliceMask)
	}
	tr.Start = ownStart() // it is not older than this process
	return tr
}

var ownStartTime atomic.Uint64

// ownStart returns the start time of this process; 0 if it cannot be read, which is asked again.
func ownStart() uint64 {
	start := ownStartTime.Load()
	if start == 0 {
		st, _ := procfs.ReadStatNoComm(os.Getpid())
		start = st.StartTime
		ownStartTime.Store(start)
	}
	return start
}

// markOf is Trace's other direction. The mark is not that of a live run of this process, so that
// End is not for it.
func markOf(tr Trace) Mark {
	m := Mark{env: tr.Environ, limit: tr.Limit}
	if m.env != "" {
		m.tracks |= TrackEnvironment
		m.id = numberIn(m.env[strings.LastIndexByte(m.env, '/')+1:])
		m.half = m.id
	}
	if tr.Limit != 0 {
		_, m.id, _ = runsOf(tr.Limit)
		m.half = m.id
		if tr.Outer != 0 {
			m.half = tr.Outer
		}
		m.tracks |= TrackLimit
	}
	if tr.Slice != 0 {
		m.slice = tr.Slice
		m.tracks |= TrackSlice
	}
	m.ownSoft, _, _ = sys.RTTimeLimit(0)
	return m
}

// Recall makes t the tree that a trace is of, and looks for it; until is that of [Tree.Until], and stays. Its
// leader may be gone; if it lives it is a member. What it is found by: the limit mark, the environment mark, the
// leader's session as long as something pins the number, and the parents. A [ProtectedError] says that this process is
// in the tree, or that the leader is one that must not be signaled.
func (t *Tree) Recall(tr Trace, until time.Time) error {
	if tr.Start == 0 {
		tr.PID = 0 // a number alone names no process
	}
	root, err := Hold(tr.PID, tr.Start)
	switch {
	case tr.PID == 0, errors.Is(err, ErrNoProcess):
		root = &Root{Process: Process{PID: tr.PID, Start: max(tr.Start, 1)}, fd: -1} // no process has that start time
	case err != nil:
		return err
	}
	mark := markOf(tr)
	t.InitBelow(root, &mark, nil)
	t.Until(until)
	t.tracks, t.number = []track{limitTrack{}, session{}, sliceTrack{}, parent{}, environTrack{}}, TrackSession
	if tr.PID == 0 { // getsid(2) returns 0 if the session is of another PID namespace
		t.tracks, t.number = []track{limitTrack{}, sliceTrack{}, parent{}, environTrack{}}, 0
	}
	t.recalled, t.strays = true, true // each process's environment and parent are read
	if err := t.notOurs(); err != nil {
		t.Forget()
		return err
	}
	t.gather(func() bool { return !time.Now().Before(until) })
	if err := t.notOurs(); err != nil {
		t.Forget()
		return err
	}
	return nil
}

// Contain has all that is in the cgroup belong to the tree as well, which was recalled.
func (t *cell) Contain(leaf *cgroup.Leaf) { t.leaf = leaf }

// Forget closes what a tree that was recalled holds.
func (t *Tree) Forget() {
	t.Close()
	t.root.Close()
}

// Owns reports whether pid belongs to the tree, which was recalled and looked at.
func (t *tracker) Owns(pid int) bool {
	if m := t.members[pid]; m != nil {
		return !t.dead(m)
	}
	t.allot(time.Time{})
	t.askLeader()
	return t.judge(pid, anywhere) == ours
}

// Signal sends sig to the process.
func (r *Root) Signal(sig syscall.Signal) error {
	if r.fd >= 0 {
		return sys.PidfdSignal(r.fd, sig)
	}
	if !r.exists() {
		return syscall.ESRCH
	}
	return sys.Kill(r.PID, sig) // without pidfds there is a gap of microseconds
}

// PidfdOf returns a copy of the pidfd, which the caller closes; -1 where there are none.
func (r *Root) PidfdOf() int {
	if r.fd < 0 {
		return -1
	}
	fd, err := sys.Dup(r.fd)
	if err != nil {
		return -1
	}
	return fd
}

// Living reports whether the process that began then lives. A zombie does not.
func Living(pid int, start uint64) bool {
	alive, _ := lives(pid, start)
	return alive
}

// MayLive is Living, of a process that cannot be looked at too, for want of descriptors perhaps.
func MayLive(pid int, start uint64) bool {
	alive, err := lives(pid, start)
	return alive || err != nil && !errors.Is(err, fs.ErrNotExist) && !sys.Gone(err)
}

func lives(pid int, start uint64) (bool, error) {
	st, err := procfs.ReadStatNoComm(pid)
	return err == nil && st.StartTime == start && st.Alive(), err
}

// ExitOfZombie returns the wait status of a process that has exited and is not reaped yet. It reports
// false if the status cannot be read.
func ExitOfZombie(pid int, start uint64) (syscall.WaitStatus, bool) {
	dead := func() bool {
		st, err := procfs.ReadStatNoComm(pid)
		return err == nil && st.StartTime == start && !st.Alive()
	}
	if !dead() {
		return sys.WaitStatus(0), false
	}
	code, err := procfs.ReadExitCode(pid)
	known := err == nil && (code != 0 || mayReadExit(pid))
	return sys.WaitStatus(code), known && dead()
}

// mayReadExit reports whether 0 is the status, and not what the kernel shows a process that may not trace
// this one (ptrace(2), PTRACE_MODE_READ_FSCREDS).
func mayReadExit(pid int) bool {
	if sys.MayTraceAll() {
		return true
	}
	st, err := procfs.ReadStatus(pid)
	us, them := uint32(os.Geteuid()), os.Getegid()
	return err == nil && st.UID[0] == us && st.UID[1] == us && st.UID[2] == us &&
		int(st.GID[0]) == them && int(st.GID[1]) == them && int(st.GID[2]) == them
}
