package testproc

import (
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RefuseSyscall has the kernel fail a system call with the error, in this process and all that
// descend from it, for good (seccomp(2)). It works for an ordinary user. Call it in a process that
// exists for that. With an argument, only calls with that first argument fail.
func RefuseSyscall(number uintptr, refusal syscall.Errno, argument ...uint32) error {
	const (
		prSetNoNewPrivs = 38
		setModeFilter   = 1
		allThreads      = 1 // SECCOMP_FILTER_FLAG_TSYNC
		loadWord        = 0x20
		jumpEqual       = 0x15
		ret             = 0x06
		retErrno        = 0x00050000
		retAllow        = 0x7fff0000
		numberAt        = 0  // offsets in struct seccomp_data
		argumentAt      = 16 // of the lower half, on little-endian machines
	)
	type instruction struct {
		code uint16
		_    uint8 // where to jump if equal: on
		jf   uint8 // how far to jump if not
		k    uint32
	}
	filter := []instruction{
		{code: loadWord, k: numberAt},
		{code: jumpEqual, jf: 1 + 2*uint8(len(argument)), k: uint32(number)},
	}
	for _, a := range argument {
		filter = append(filter, instruction{code: loadWord, k: argumentAt}, instruction{code: jumpEqual, jf: 1, k: a})
	}
	filter = append(filter, instruction{code: ret, k: retErrno | uint32(refusal)}, instruction{code: ret, k: retAllow})
	program := struct {
		length uint16
		filter *instruction
	}{uint16(len(filter)), &filter[0]}

	// The flag is the thread's, and TSYNC gives it to all.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); errno != 0 {
		return os.NewSyscallError("prctl", errno)
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_SECCOMP, setModeFilter, allThreads, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return os.NewSyscallError("seccomp", errno)
	}
	return nil
}
