package testproc

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"
)

// systemBaseline holds what the process had at the start: it may have been born with either.
type systemBaseline struct {
	fds      map[fd]bool
	children map[int]uint64 // start time by PID
}

func recordSystem() systemBaseline {
	b := systemBaseline{fds: make(map[fd]bool), children: make(map[int]uint64)}
	fds, _ := openFDs()
	for _, fd := range fds {
		b.fds[fd] = true
	}
	for _, p := range children() {
		b.children[p.pid] = p.start
	}
	return b
}

// leaks names each child and descriptor that is new.
func (b systemBaseline) leaks() []string {
	var left []string
	for _, p := range b.newChildren() {
		left = append(left, fmt.Sprintf("child left: %v", p))
	}
	if len(left) == 0 && len(b.children) == 0 && os.Getpid() != 1 && hasChild() {
		left = append(left, "child left: waitid knows one, /proc does not")
	}
	fds, err := openFDs()
	if err != nil {
		left = append(left, err.Error())
	}
	for _, fd := range fds {
		if !b.fds[fd] {
			left = append(left, fmt.Sprintf("descriptor left: %d -> %s", fd.n, fd.target))
		}
	}
	return left
}

// newChildren returns the children that are not in the baseline. As PID 1 this process is given the
// zombies of others, which are not told apart from its own: then only those that run are returned.
func (b systemBaseline) newChildren() []process {
	var list []process
	if !hasChild() {
		return nil
	}
	for _, p := range children() {
		start, old := b.children[p.pid]
		if (old && start == p.start) || (os.Getpid() == 1 && p.state == 'Z') {
			continue
		}
		list = append(list, p)
	}
	return list
}

// killChildren kills the new children, which stay as zombies. What pins their PIDs is that nobody
// else reaps at the end of a test.
func (b systemBaseline) killChildren() {
	for _, p := range b.newChildren() {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// hasChild asks the kernel whether there is any child at all, running, stopped or zombie, and changes
// nothing (waitid(2): ECHILD).
func hasChild() bool {
	const (
		pAll    = 0
		wNoWait = 0x1000000
		wAll    = 0x40000000
	)
	var info [128]byte // siginfo_t
	for {
		_, _, errno := syscall.Syscall6(syscall.SYS_WAITID, pAll, 0, uintptr(unsafe.Pointer(&info)),
			syscall.WEXITED|syscall.WSTOPPED|syscall.WCONTINUED|syscall.WNOHANG|wNoWait|wAll, 0, 0)
		if errno != syscall.EINTR {
			return errno != syscall.ECHILD
		}
	}
}

// children lists the children of this process by looking at everybody's parent.
func children() []process {
	var list []process
	for _, pid := range pids() {
		if p, err := readProcess(pid); err == nil && p.ppid == os.Getpid() {
			list = append(list, p)
		}
	}
	return list
}
