package sys

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RTTimeLimit returns both limits RLIMIT_RTTIME of a process. EPERM is the answer for one of another
// user, ESRCH for none, and a thread's ID is answered for its process (prlimit(2)).
func RTTimeLimit(pid int) (soft, hard uint64, err error) {
	if !Enabled(LimitMark) {
		return 0, 0, unix.ENOSYS
	}
	var limit unix.Rlimit
	err = prlimit(pid, unix.RLIMIT_RTTIME, nil, &limit)
	return limit.Cur, limit.Max, err
}

// SetRTTimeLimit sets both limits RLIMIT_RTTIME of a process and returns what the soft one was. A
// limit of 32-bit kernels cannot hold large numbers: it becomes infinite.
func SetRTTimeLimit(pid int, soft, hard uint64) (before uint64, err error) {
	if !Enabled(LimitMark) {
		return 0, unix.ENOSYS
	}
	old, limit := unix.Rlimit{}, unix.Rlimit{Cur: soft, Max: hard}
	err = prlimit(pid, unix.RLIMIT_RTTIME, &limit, &old)
	return old.Cur, err
}

// prlimit is that of x/sys, which lets its arguments escape to the heap: it is asked of every process.
func prlimit(pid, resource int, limit, old *unix.Rlimit) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_PRLIMIT64, uintptr(pid), uintptr(resource),
		uintptr(unsafe.Pointer(limit)), uintptr(unsafe.Pointer(old)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// A Schedule is how one thread is scheduled (sched_setattr(2)).
type Schedule struct{ attr unix.SchedAttr }

// The limits of a slice in nanoseconds; the kernel clamps what lies outside.
const (
	minSlice = 100_000
	maxSlice = 100_000_000
)

// ScheduleOf returns how the thread pid, or for 0 the calling one, is scheduled. It needs no permission.
func ScheduleOf(pid int) (Schedule, error) {
	var s Schedule
	if !Enabled(SliceMark) {
		return s, unix.ENOSYS
	}
	_, _, errno := unix.RawSyscall6(unix.SYS_SCHED_GETATTR, uintptr(pid), uintptr(unsafe.Pointer(&s.attr)),
		unsafe.Sizeof(s.attr), 0, 0, 0)
	if errno != 0 {
		return s, errno
	}
	return s, nil
}

// Slice returns the thread's slice in nanoseconds. It is 0 before Linux 6.12, for other policies than
// the fair ones, and where children do not inherit it.
func (s *Schedule) Slice() uint64 {
	fair := s.attr.Policy == unix.SCHED_NORMAL || s.attr.Policy == unix.SCHED_BATCH || s.attr.Policy == unix.SCHED_IDLE
	if !fair || s.attr.Flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
		return 0
	}
	return s.attr.Runtime
}

// SetSlice gives the calling thread a slice of its own, which children inherit, and changes nothing
// else about it. The goroutine must be locked to the thread.
func (s *Schedule) SetSlice(ns uint64) error {
	if ns < minSlice || ns > maxSlice {
		return unix.EINVAL
	}
	attr := s.attr
	attr.Size, attr.Runtime = unix.SizeofSchedAttr, ns
	attr.Flags = 0
	_, _, errno := unix.RawSyscall(unix.SYS_SCHED_SETATTR, 0, uintptr(unsafe.Pointer(&attr)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// Denied reports whether err says that we may not, about a process that is there.
func Denied(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }
