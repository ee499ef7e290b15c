package proctree

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Supported reports whether commands can be run on this platform.
const Supported = sys.Supported

// Enumerates reports whether the processes of a tree can be found on this platform. Where they cannot,
// Live finds none, and only the leader's group can be signaled.
const Enumerates = runtime.GOOS == "linux"

// SIGCONT wakes what is stopped. Not every platform's package syscall has it.
const SIGCONT = sys.SIGCONT

// SIGSTOP stops and cannot be handled.
const SIGSTOP = sys.SIGSTOP

// What a terminal stops processes with.
const (
	SIGTSTP = sys.SIGTSTP
	SIGTTIN = sys.SIGTTIN
	SIGTTOU = sys.SIGTTOU
)

// SessionAttr returns a copy of attr that makes the leader lead a session of its own. The error
// names what of attr cannot be had with that.
func SessionAttr(attr *syscall.SysProcAttr) (*syscall.SysProcAttr, error) {
	if sys.Traced(attr) {
		return nil, errors.New("has Ptrace set: the command would stop before its first instruction")
	}
	own, ok := sys.NewSession(attr)
	if !ok {
		return nil, errors.New("asks for another process group or the terminal's foreground; " +
			"the command leads a session of its own, unless it is to have the terminal")
	}
	return own, nil
}

// ChangesUser reports whether the command will have other rights than this process has.
func ChangesUser(attr *syscall.SysProcAttr) bool { return sys.ChangesUser(attr) }

// DevNull returns /dev/null for reading, shared by all runs: never close it.
func DevNull() (*os.File, error) { return sys.DevNull() }

// A head is the leader of a tree, or its root.
type head struct {
	leader       int         // its PID
	process      *os.Process // nil for a root
	root         *Root       // nil for a leader of ours
	start        uint64      // in clock ticks; 0 until it is asked for, or unreadable
	apart        bool        // no signal to the leader's group may be sent
	leaderReaped bool        // when askLeader asked
}

// LendPidfd calls f with the leader's pidfd, which stays open until f returns, even if other code reaps the
// leader or releases the os.Process meanwhile. If there is none it reports false, and does not call f.
func (t *head) LendPidfd(f func(fd int)) bool {
	return sys.Enabled(sys.Pidfd) && t.process.WithHandle(func(h uintptr) { f(int(h)) }) == nil
}

// A standing is what is known of a leader of ours.
type standing int

const (
	unsure  standing = iota // it could not be asked
	running                 // or a zombie that a tracer holds: our wait does not see it, see ptrace(2)
	zombie
	reaped // by other code, or by the kernel where SIGCHLD is ignored: the number may be another's
)

// standing asks where the leader stands. An error of waitid(2) is not the leader's exit: a filter may give
// it, and ECHILD too. So the pidfd is asked then, and where there is none waitid again.
func (t *head) standing() standing {
	now, _ := waited(t.leader)
	if now != unsure {
		return now
	}
	if t.process == nil {
		return reaped // the leader of a tree that was recalled is no child of ours, and a member like others
	}
	if sys.Enabled(sys.Pidfd) {
		err := t.process.WithHandle(func(h uintptr) { now = held(int(h)) })
		if errors.Is(err, os.ErrProcessDone) {
			return reaped // through the os.Process
		}
	}
	if now != unsure {
		return now
	}
	now, err := waited(t.leader)
	if now == unsure && (sys.NoChild(err) || gone(t.leader)) {
		return reaped
	}
	return now
}

// waited asks by waitid(2).
func waited(child int) (standing, error) {
	exited, err := sys.ExitedUnreaped(child)
	switch {
	case err != nil:
		return unsure, err
	case exited:
		return zombie, nil
	}
	return running, nil
}

// held asks a pidfd.
func held(fd int) standing {
	err := sys.PidfdSignal(fd, noSignal)
	if sys.Gone(err) {
		return reaped
	}
	found, unread := sys.Ready(fd)
	switch {
	case unread != nil:
		return unsure
	case !found.Readable:
		return running
	case err == nil || sys.Denied(err): // another user's is there as well
		return zombie
	}
	return reaped // or not: nothing says that the number is pinned
}

// WaitLeader blocks a thread until the leader has exited; it is not reaped.
func (t *head) WaitLeader() {
	for pause := time.Millisecond; sys.WaitExit(t.leader) != nil && !t.LeaderExited(); pause = min(2*pause, time.Second) {
		time.Sleep(pause)
	}
}

// LeaderExited reports whether the leader is known to have exited, reaped or not. It is not while a tracer holds the
// zombie, which its parent does not see until the tracer lets go (ptrace(2)).
func (t *head) LeaderExited() bool { return t.standing() >= zombie }

// Exited is LeaderExited of a child of ours that no tree is made of yet.
func Exited(child *os.Process) bool {
	t := head{leader: child.Pid, process: child}
	return t.LeaderExited()
}

// ReapLeader reaps the leader, which has exited, where the os.Process does not, since it was released.
// The status is lost.
func (t *head) ReapLeader() {
	if exited, err := sys.ExitedUnreaped(t.leader); err == nil && exited {
		_, _ = sys.Reap(t.leader)
	}
}

// leaderStart returns the leader's start time in clock ticks, 0 if it cannot be told any more.
func (t *head) leaderStart() uint64 {
	if t.start == 0 && !t.leaderReaped {
		if st, err := procfs.ReadStatNoComm(t.leader); err == nil && t.Pinned() {
			t.start = st.StartTime
		}
	}
	return t.start
}

func (t *head) grouped(pid int) bool {
	pgid, err := sys.Group(pid)
	return err == nil && pgid == t.leader && !t.apart
}

func (t *head) settles() bool { return t.root != nil || t.LeaderExited() } // a root that lives is found

// InLeaderGroup reports whether m is in the leader's group, so that a signal to that one reaches it.
func (t *head) InLeaderGroup(m *Member) bool { return Group(m) == t.leader }

// Group returns the process group of m, -1 if m is gone.
func Group(m *Member) int {
	pgid, err := sys.Group(m.PID)
	if err != nil {
		return -1
	}
	return pgid
}

// LeaderKilled reports whether the leader, which is not reaped, died of a signal.
func (t *head) LeaderKilled() bool { return sys.KilledUnreaped(t.leader) }

// WaitLeaderStopped blocks a thread until a signal stopped the leader, and returns the signal; 0 once
// the leader has exited.
func (t *head) WaitLeaderStopped() syscall.Signal { return sys.WaitStopped(t.leader) }

// Inspect names the process that has pid now.
func Inspect(pid int) Process {
	p := Process{PID: pid}
	if procfs.Foreign() {
		return p
	}
	if st, err := procfs.ReadStat(pid); err == nil {
		p.Start, p.Name = st.StartTime, st.Comm
	}
	return p
}

// BootID returns what tells this boot of the machine from others; "" where nothing does.
var BootID = sync.OnceValue(func() string {
	id, _ := procfs.ReadBootID()
	return id
})

// Foreign reports whether /proc shows another PID namespace than ours, so that nothing in there is to be believed.
func Foreign() bool { return Enumerates && procfs.Foreign() }
