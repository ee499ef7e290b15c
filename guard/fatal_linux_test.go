package guard_test

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A call is a system call with one of its arguments.
type call struct {
	number, argument uint32
	equal            uint32 // the argument's lower half; or
	mask             uint32 // bits of which it has one
	resource         uint32 // for prlimit(2): its second argument; 0 for any
}

// fatal are the moments at which a host can be made to die, by the first system call that comes with each.
var fatal = map[string][]call{
	"before the clone": {
		{number: unix.SYS_CLONE, argument: 0, mask: unix.CLONE_VFORK}, // and not by a new thread
	},
	"between the clone and the mark": {
		{number: unix.SYS_PRLIMIT64, argument: 2, mask: ^uint32(0), resource: unix.RLIMIT_RTTIME}, // which sets it
	},
	"before SIGTERM": sends(unix.SIGTERM),
	"before SIGKILL": sends(unix.SIGKILL),
}

func sends(sig unix.Signal) []call {
	return []call{
		{number: unix.SYS_KILL, argument: 1, equal: uint32(sig)},
		{number: unix.SYS_PIDFD_SEND_SIGNAL, argument: 1, equal: uint32(sig)},
	}
}

// dieAt has the kernel kill this process, all of its threads, at the first of the calls (seccomp(2)). What it starts
// from now on inherits that.
func dieAt(calls []call) error {
	const (
		numberAt   = 0  // offsets in struct seccomp_data
		argumentAt = 16 // of the lower half, on little-endian machines
		load       = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal      = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		anyOf      = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret        = unix.BPF_RET | unix.BPF_K
	)
	var filter []unix.SockFilter
	for _, c := range calls {
		compare := unix.SockFilter{Code: equal, Jf: 1, K: c.equal}
		if c.mask != 0 {
			compare = unix.SockFilter{Code: anyOf, Jf: 1, K: c.mask}
		}
		rest := []unix.SockFilter{
			{Code: load, K: argumentAt + 8*c.argument}, compare, {Code: ret, K: unix.SECCOMP_RET_KILL_PROCESS},
		}
		if c.resource != 0 {
			rest = append([]unix.SockFilter{
				{Code: load, K: argumentAt + 8}, {Code: equal, Jf: uint8(len(rest)), K: c.resource},
			}, rest...)
		}
		filter = append(filter, unix.SockFilter{Code: load, K: numberAt},
			unix.SockFilter{Code: equal, Jf: uint8(len(rest)), K: c.number})
		filter = append(filter, rest...)
	}
	filter = append(filter, unix.SockFilter{Code: ret, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	// The flag is the thread's, and TSYNC gives it to all.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC,
		uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return errno
	}
	return nil
}
