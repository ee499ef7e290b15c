package sys

import (
	"errors"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Trace has a command that is started with attr stop at its execve, before its first instruction,
// for the thread that started it (ptrace(2), PTRACE_TRACEME).
func Trace(attr *syscall.SysProcAttr) { attr.Ptrace = true }

// A SignalSet is the set of signals that a thread blocks.
type SignalSet uint64

// asynchronous are the signals that come from elsewhere. Those that an instruction causes stay
// unblocked: the kernel kills where one of them is blocked, and SIGTRAP is the exec stop itself.
const asynchronous = ^SignalSet(1<<(unix.SIGILL-1) | 1<<(unix.SIGTRAP-1) | 1<<(unix.SIGBUS-1) |
	1<<(unix.SIGFPE-1) | 1<<(unix.SIGSEGV-1) | 1<<(unix.SIGSYS-1))

const signalSetSize = 8

// BlockSignals blocks the asynchronous signals for this thread, which a child of it inherits, and
// returns what was blocked before. The goroutine must be locked to the thread.
func BlockSignals() (SignalSet, error) { return sigprocmask(unix.SIG_BLOCK, asynchronous) }

// RestoreSignals undoes BlockSignals.
func RestoreSignals(before SignalSet) { _, _ = sigprocmask(unix.SIG_SETMASK, before) }

// WithSignalsBlocked calls f on a thread that blocks the asynchronous signals meanwhile, those that f
// causes itself among them.
func WithSignalsBlocked(f func()) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := BlockSignals()
	if err != nil {
		return err
	}
	defer RestoreSignals(before)
	f()
	return nil
}

func sigprocmask(how int, set SignalSet) (before SignalSet, err error) {
	_, _, errno := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, uintptr(how), uintptr(unsafe.Pointer(&set)),
		uintptr(unsafe.Pointer(&before)), signalSetSize, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return before, nil
}

// TraceStop returns the signal at which a traced child has stopped, 0 while it has not or is dead.
// It uses a request that works on stopped children alone, so that no wait can take the answer away. Like
// all of tracing it is for the thread that started the child.
func TraceStop(pid int) (syscall.Signal, error) {
	var info [128]byte // siginfo_t
	err := ptrace(unix.PTRACE_GETSIGINFO, pid, 0, unsafe.Pointer(&info))
	if errors.Is(err, unix.ESRCH) {
		return 0, nil
	}
	return syscall.Signal(*(*int32)(unsafe.Pointer(&info))), err
}

// TraceGoOn lets a stopped child go on to its next stop, with the signal it stopped at.
func TraceGoOn(pid int, sig syscall.Signal) error { return unix.PtraceCont(pid, int(sig)) }

// TraceDetach gives a stopped child the set of blocked signals and lets it go for good.
func TraceDetach(pid int, blocked SignalSet) error {
	if err := ptrace(unix.PTRACE_SETSIGMASK, pid, signalSetSize, unsafe.Pointer(&blocked)); err != nil {
		return err
	}
	return ptrace(unix.PTRACE_DETACH, pid, 0, nil)
}

func ptrace(request, pid int, addr uintptr, data unsafe.Pointer) error {
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), addr, uintptr(data), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// MayTraceAll reports whether this thread holds CAP_SYS_PTRACE, under which a traced program keeps
// what set-user-ID and file capabilities give it.
func MayTraceAll() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&header, &data[0]) != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_SYS_PTRACE) != 0
}

// Privileged reports whether executing the file at path gives another user, another group or
// capabilities. It ignores the mount's nosuid.
func Privileged(path string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return false, err
	}
	if st.Mode&unix.S_ISUID != 0 || st.Mode&(unix.S_ISGID|unix.S_IXGRP) == unix.S_ISGID|unix.S_IXGRP {
		return true, nil
	}
	size, err := unix.Getxattr(path, "security.capability", nil)
	switch {
	case errors.Is(err, unix.ENODATA), errors.Is(err, unix.ENOTSUP):
		return false, nil
	case err != nil:
		return false, err
	}
	return size > 0, nil
}
