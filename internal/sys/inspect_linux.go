package sys

import (
	"encoding/binary"
	"errors"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanInspect reports whether the functions below do anything.
const CanInspect = true

// ReadMemory reads memory of another process: process_vm_readv(2). It needs
// PTRACE_MODE_ATTACH_REALCREDS, and waits where a page of it comes from a file system that hangs.
func ReadMemory(pid int, addr uint64, p []byte) (int, error) {
	if len(p) == 0 || uint64(uintptr(addr)) != addr {
		return 0, unix.EFAULT
	}
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}
	n, err := unix.ProcessVMReadv(pid, local, remote, 0)
	return max(n, 0), err
}

// CPUTime returns the time that a process has spent on processors, all threads together: the clock
// of clock_getcpuclockid(3). It needs no permission.
func CPUTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// ClockNow returns what a clock of clock_gettime(2) shows.
func ClockNow(clock int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// StopSignal returns the signal that stopped a child of ours, and leaves it to be waited for
// (waitid(2), WSTOPPED and WNOWAIT). It is 0 if the child is not stopped or another wait took it.
func StopSignal(pid int) syscall.Signal {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG, nil)
	if err != nil || info.Signo == 0 {
		return 0
	}
	return childStatus(&info)
}

// childStatus returns si_status of what waitid(2) says of a child that did not exit by itself.
func childStatus(info *unix.Siginfo) syscall.Signal {
	// struct siginfo_t: three ints, padding where pointers have 8 bytes, si_pid, si_uid, si_status.
	offset := 3 * unsafe.Sizeof(int32(0))
	offset = (offset + unsafe.Sizeof(uintptr(0)) - 1) &^ (unsafe.Sizeof(uintptr(0)) - 1)
	raw := (*[unsafe.Sizeof(*info)]byte)(unsafe.Pointer(info))
	return syscall.Signal(binary.NativeEndian.Uint32(raw[offset+8:]))
}

// NotPermitted reports whether err says that we may not.
func NotPermitted(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// A FIFOMode is how an end of a pipe is opened.
type FIFOMode int

// The modes.
const (
	FIFORead  FIFOMode = unix.O_RDONLY
	FIFOWrite FIFOMode = unix.O_WRONLY
)

// TypeAt returns what a link in /proc/PID/fd leads to. The file system is not asked.
func TypeAt(link string) (FileType, error) {
	fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return TypeNone, err
	}
	defer Close(fd)
	file, err := FileOf(fd)
	return file.Type, err
}

// ReopenFIFO calls f with a new end of the pipe or FIFO that a link in /proc/PID/fd leads to, and
// closes it; mode is that of an end which is held open, so that no process takes us for the first reader or
// writer. If the link leads to anything else by now, it is not opened: closing a file would drop the locks
// that this process has on it.
func ReopenFIFO(link string, mode FIFOMode, f func(fd int)) error {
	fd, err := unix.Open(link, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer Close(fd)
	file, err := FileOf(fd)
	if err != nil {
		return err
	}
	if file.Type != TypeFIFO {
		return unix.ESPIPE
	}
	end, err := reopen(fd, int(mode))
	if err != nil {
		return err
	}
	defer Close(end)
	f(end)
	return nil
}
