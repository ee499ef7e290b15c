package sys

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Supported reports whether commands can be run on this platform.
const Supported = true

// SIGSTOP stops a process, which cannot prevent it.
const SIGSTOP = unix.SIGSTOP

// SIGCONT wakes what is stopped.
const SIGCONT = unix.SIGCONT

// What a terminal stops processes with.
const (
	SIGTSTP = unix.SIGTSTP
	SIGTTIN = unix.SIGTTIN
	SIGTTOU = unix.SIGTTOU
)

// PidfdOpen opens a pidfd of pid, close-on-exec. It is free of races only while something pins
// the number: the process is an unreaped child of ours, or its start time is compared afterwards.
func PidfdOpen(pid int) (int, error) {
	if !Enabled(Pidfd) {
		return -1, unix.ENOSYS
	}
	return unix.PidfdOpen(pid, 0)
}

// PidfdSignal sends sig through a pidfd, which never means another process.
func PidfdSignal(fd int, sig syscall.Signal) error {
	return unix.PidfdSendSignal(fd, sig, nil, 0)
}

// PidfdSignalGroup sends sig to the process group that the pidfd's process leads, since Linux 6.9
// (pidfd_send_signal(2), PIDFD_SIGNAL_PROCESS_GROUP); EINVAL before.
func PidfdSignalGroup(fd int, sig syscall.Signal) error {
	if !Enabled(Pidfd) {
		return unix.ENOSYS
	}
	return unix.PidfdSendSignal(fd, sig, nil, pidfdSignalProcessGroup)
}

const pidfdSignalProcessGroup = 1 << 2

// Kill sends sig to a process, or to the process group -pid. The caller says what pins the number.
func Kill(pid int, sig syscall.Signal) error { return unix.Kill(pid, sig) }

// Session returns the session of pid. Other than /proc it works for processes of every user,
// under hidepid and for zombies.
func Session(pid int) (int, error) { return unix.Getsid(pid) }

// Group returns the process group of pid.
func Group(pid int) (int, error) { return unix.Getpgid(pid) }

// WaitExit blocks a thread until the child pid has exited, and leaves it to be reaped
// (waitid(2), WNOWAIT). ECHILD means that other code reaped it.
func WaitExit(pid int) error {
	return waitid(pid, unix.WEXITED|unix.WNOWAIT)
}

// ExitedUnreaped reports whether the child pid is a zombie of ours, which pins its number.
func ExitedUnreaped(pid int) (bool, error) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		if err != unix.EINTR {
			// With WNOHANG and nothing to report the call succeeds and leaves si_signo at 0. The
			// stop of a child that we trace is reported whatever was asked for.
			return err == nil && info.Signo != 0 && info.Code < cldTrapped, err
		}
	}
}

// ReapPidfd reaps the process of a pidfd if it is a zombie and a child of ours, and does not wait
// (waitid(2), P_PIDFD, since 5.4). It returns what that and the children that it has waited for have used.
func ReapPidfd(fd int) (Usage, error) { return reap(unix.P_PIDFD, fd) }

// Reap does that by number. The caller says what pins it.
func Reap(pid int) (Usage, error) { return reap(unix.P_PID, pid) }

func reap(kind, id int) (Usage, error) {
	for {
		var info unix.Siginfo
		var used unix.Rusage // of both, other than the function of the C library the system call has it
		err := unix.Waitid(kind, id, &info, unix.WEXITED|unix.WNOHANG, &used)
		switch {
		case err == unix.EINTR:
		case err == nil && info.Signo == 0:
			return Usage{}, unix.EAGAIN // it runs
		default:
			return usageOf(&used), err
		}
	}
}

// SetSubreaper has orphans among the descendants of this process become its children
// (PR_SET_CHILD_SUBREAPER(2const)). It is of the whole process.
func SetSubreaper() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// Adopts reports whether orphans among its descendants become children of this process: it is the
// first of its PID namespace, or a subreaper.
func Adopts() bool {
	if os.Getpid() == 1 {
		return true
	}
	var set int32
	_, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(&set)), 0)
	return errno == 0 && set != 0
}

// cldTrapped is CLD_TRAPPED of sigaction(2); smaller codes are the ways to exit.
const cldTrapped = 4

func waitid(pid, options int) error {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, pid, &info, options, nil)
		if err != unix.EINTR {
			return err
		}
	}
}

// loadavg is /proc/loadavg, opened once and kept: its last field is the last PID that was given
// out in the PID namespace of the reader (proc_loadavg(5)).
var loadavg struct {
	sync.Mutex
	fd     int
	opened bool
}

// openLoadavg opens it where that was not done. Having failed for want of a descriptor it tries again.
func openLoadavg() int {
	loadavg.Lock()
	defer loadavg.Unlock()
	if loadavg.opened {
		return loadavg.fd
	}
	fd, err := unix.Open("/proc/loadavg", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil || fs.Type != unix.PROC_SUPER_MAGIC {
		_ = unix.Close(fd) // lxcfs and the like lay a file of their own over it
		fd = -1
	}
	loadavg.fd, loadavg.opened = fd, true
	return fd
}

// ReadLoadavg reads /proc/loadavg into p.
func ReadLoadavg(p []byte) (int, error) {
	if !Enabled(Loadavg) {
		return 0, unix.ENOSYS
	}
	fd := openLoadavg()
	if fd < 0 {
		return 0, unix.ENOENT
	}
	return unix.Pread(fd, p, 0)
}

// devNull is /dev/null for reading, opened once and kept.
var devNull = sync.OnceValues(func() (*os.File, error) { return os.Open(os.DevNull) })

// DevNull returns /dev/null for reading. It is shared: never close it.
func DevNull() (*os.File, error) { return devNull() }

// NewSession returns a copy of attr whose process leads a session, and so a process group, of its
// own. It reports false where attr asks for what a new session excludes.
//
// A plain Setpgid is dropped: a session leader leads a group already, and setpgid of a session
// leader is EPERM (setpgid(2)).
func NewSession(attr *syscall.SysProcAttr) (*syscall.SysProcAttr, bool) {
	var own syscall.SysProcAttr
	if attr != nil {
		own = *attr
	}
	if own.Pgid != 0 || own.Foreground {
		return nil, false
	}
	own.Setpgid = false
	own.Setsid = true
	return &own, true
}

// Traced reports whether attr asks for the child to stop at exec under ptrace.
func Traced(attr *syscall.SysProcAttr) bool { return attr != nil && attr.Ptrace }

// ChangesRoot reports whether the child has another root directory, so that what this process finds
// under a path says nothing about the child.
func ChangesRoot(attr *syscall.SysProcAttr) bool { return attr != nil && attr.Chroot != "" }

// ChangesUser reports whether the child has other rights than this process.
func ChangesUser(attr *syscall.SysProcAttr) bool {
	return attr != nil && (attr.Credential != nil || attr.Cloneflags&unix.CLONE_NEWUSER != 0)
}

// IsThread reports whether err, of PidfdOpen, says that the number is a thread's and not a process's:
// EINVAL in pidfd_open(2), ENOENT on newer kernels (seen on 6.18).
func IsThread(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT)
}

// NoPidfds reports whether err, of PidfdOpen, says that there are none here, and not that there is no
// room for another one.
func NoPidfds(err error) bool {
	return errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.ENODEV) || Denied(err)
}

// Gone reports whether err says that there is no such process.
func Gone(err error) bool { return errors.Is(err, unix.ESRCH) }

// NoChild reports whether err, of ExitedUnreaped, says that there is no such child of ours.
func NoChild(err error) bool { return errors.Is(err, unix.ECHILD) }
