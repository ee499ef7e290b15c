//go:build darwin || freebsd || openbsd || netbsd

package sys

import (
	"errors"
	"os"
	"sync"
	"syscall"

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

// PidfdOpen has no counterpart here.
func PidfdOpen(int) (int, error) { return -1, unix.ENOSYS }

// PidfdSignal has no counterpart here.
func PidfdSignal(int, syscall.Signal) error { return unix.ENOSYS }

// PidfdSignalGroup has no counterpart here.
func PidfdSignalGroup(int, syscall.Signal) error { return unix.ENOSYS }

// Kill sends sig to a process, or to the process group -pid. The caller says what pins the number.
func Kill(pid int, sig syscall.Signal) error { return unix.Kill(pid, sig) }

// Session returns the session of pid.
func Session(pid int) (int, error) { return unix.Getsid(pid) }

// Group returns the process group of pid.
func Group(pid int) (int, error) { return unix.Getpgid(pid) }

// WaitExit blocks a thread until the child pid has exited, and leaves it to be reaped.
func WaitExit(pid int) error {
	_, err := exited(pid, nil)
	return err
}

// ExitedUnreaped reports whether the child pid has exited; one that we wait for alone stays a zombie. Where that
// cannot be asked, for want of a descriptor perhaps, it is taken to live.
func ExitedUnreaped(pid int) (bool, error) {
	over, err := exited(pid, new(unix.Timespec))
	return over && err == nil, nil
}

// exited waits for the exit of the child pid for as long as timeout says, for ever if that is nil: kqueue(2),
// EVFILT_PROC with NOTE_EXIT. A child that has exited already is ESRCH to kevent on some systems and an
// immediate event on others; both mean that it can be reaped.
func exited(pid int, timeout *unix.Timespec) (bool, error) {
	kq, err := unix.Kqueue()
	if err != nil {
		return false, err
	}
	defer unix.Close(kq)
	unix.CloseOnExec(kq)
	var change [1]unix.Kevent_t
	unix.SetKevent(&change[0], pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	change[0].Fflags = unix.NOTE_EXIT
	var event [1]unix.Kevent_t
	for {
		n, err := unix.Kevent(kq, change[:], event[:], timeout)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ESRCH):
			return true, nil
		case err != nil:
			return false, err
		case n > 0 || timeout != nil:
			return n > 0, nil
		}
	}
}

// ReadLoadavg has no counterpart here.
func ReadLoadavg([]byte) (int, error) { return 0, unix.ENOSYS }

var devNull = sync.OnceValues(func() (*os.File, error) { return os.Open(os.DevNull) })

// DevNull returns /dev/null for reading. It is shared: never close it.
func DevNull() (*os.File, error) { return devNull() }

// NewSession returns a copy of attr whose process leads a session of its own. It reports false
// where attr asks for what a new session excludes.
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

// ChangesRoot reports whether the child sees another file system.
func ChangesRoot(attr *syscall.SysProcAttr) bool { return attr != nil && attr.Chroot != "" }

// ChangesUser reports whether the child has other rights than this process.
func ChangesUser(attr *syscall.SysProcAttr) bool { return attr != nil && attr.Credential != nil }

// IsThread is always false: threads have no PIDs.
func IsThread(error) bool { return false }

// NoPidfds is always true.
func NoPidfds(error) bool { return true }

// Gone reports whether err says that there is no such process.
func Gone(err error) bool { return errors.Is(err, unix.ESRCH) }

// NoChild reports whether err, of ExitedUnreaped, says that there is no such child of ours.
func NoChild(err error) bool { return errors.Is(err, unix.ECHILD) }
