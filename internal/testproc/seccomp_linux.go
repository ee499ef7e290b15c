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
// exists for that.
func RefuseSyscall(number uintptr, refusal syscall.Errno) error {
	const (
		prSetNoNewPrivs   = 38
		setModeFilter     = 1
		allThreads        = 1 // SECCOMP_FILTER_FLAG_TSYNC
		loadWord          = 0x20
		jumpEqual         = 0x15
		ret               = 0x06
		retErrno          = 0x00050000
		retAllow          = 0x7fff0000
		numberInSeccompOf = 0 // offset in struct seccomp_data
	)
	type instruction struct {
		code   uint16
		jt, jf uint8
		k      uint32
	}
	filter := []instruction{
		{code: loadWord, k: numberInSeccompOf},
		{code: jumpEqual, jf: 1, k: uint32(number)},
		{code: ret, k: retErrno | uint32(refusal)},
		{code: ret, k: retAllow},
	}
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
