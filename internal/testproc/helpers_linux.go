package testproc

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
	"unsafe"
)

func init() {
	helpers["fds"] = printFDs
}

// printFDs lists what survived exec: the runtime opens files of its own, all close-on-exec.
func printFDs([]string) int {
	for _, fd := range inherited() {
		fmt.Println(fd.n, fd.target)
	}
	return 0
}

// inherited returns the descriptors that this process was born with.
func inherited() []fd {
	fds, err := openFDs()
	if err != nil {
		fail("%v", err)
	}
	return slices.DeleteFunc(fds, func(fd fd) bool {
		flags, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(fd.n), syscall.F_GETFD, 0)
		return errno != 0 || flags&syscall.FD_CLOEXEC != 0
	})
}

// watchdog has the kernel kill this process after d. A timer that sends SIGKILL works while the
// process is stopped, whatever it ignores, and dies with it (timer_create(2)).
func watchdog(d time.Duration) {
	const clockMonotonic = 1
	ev := struct {
		value         uintptr
		signo, notify int32
		_             [48]byte
	}{signo: int32(syscall.SIGKILL)}
	var id int32
	_, _, errno := syscall.RawSyscall(syscall.SYS_TIMER_CREATE, clockMonotonic,
		uintptr(unsafe.Pointer(&ev)), uintptr(unsafe.Pointer(&id)))
	if errno == 0 {
		spec := struct{ interval, value syscall.Timespec }{
			value: syscall.NsecToTimespec(d.Nanoseconds()),
		}
		_, _, errno = syscall.RawSyscall6(syscall.SYS_TIMER_SETTIME, uintptr(id), 0,
			uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	}
	if errno != 0 { // a sandbox that has no timers
		time.AfterFunc(d, func() { syscall.Kill(syscall.Getpid(), syscall.SIGKILL) })
	}
}

// defaultAction undoes the handler that the Go runtime installs at start, which would print
// goroutines or turn the signal into another one.
func defaultAction(sig syscall.Signal) {
	var act [64]byte // all zero is SIG_DFL on every architecture
	const setSize = 8
	_, _, errno := syscall.RawSyscall6(syscall.SYS_RT_SIGACTION, uintptr(sig),
		uintptr(unsafe.Pointer(&act)), 0, setSize, 0, 0)
	if errno != 0 && sig != syscall.SIGKILL {
		fail("rt_sigaction: %v", errno)
	}
}

// heedSignals starts this program anew without ignoring what nohup(1), or a shell that has it run in the background,
// has it ignore: what the tests start, and send these signals to, would ignore them too.
func heedSignals() {
	anew := false
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT} { // the runtime handles the others
		if signal.Ignored(sig) {
			defaultAction(sig)
			anew = true
		}
	}
	if anew {
		_ = syscall.Exec("/proc/self/exe", os.Args, os.Environ())
	}
}
