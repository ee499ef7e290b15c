package nth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A fault is what is done to one call of the host's: the n-th of its kind fails. The zero fault does nothing.
type fault struct {
	call  string
	n     int
	errno unix.Errno
}

// A record is what the supervisor saw of the run.
type record struct {
	counts    map[string]int // calls between the two marks, by kind
	fired     bool
	began     bool
	ended     bool
	strangers []string // signaled
	survivors []string // alive when the run had returned
	err       error
}

// The host makes these calls, which do nothing, before and after its run (prctl(2): EINVAL).
const (
	markBegin = 0x5afe0001
	markEnd   = 0x5afe0002
)

// notification and answer are struct seccomp_notif and struct seccomp_notif_resp; see seccomp_unotify(2).
type (
	notification struct {
		id         uint64
		pid, flags uint32
		number     int32
		arch       uint32
		ip         uint64
		args       [6]uint64
	}
	answer struct {
		id    uint64
		value int64
		errno int32
		flags uint32
	}
)

// unseen are the calls of the Go runtime, without which it cannot live, those that a host needs to hand
// over its listener, and those that cannot fail.
var unseen = []uint32{
	unix.SYS_FUTEX, unix.SYS_MMAP, unix.SYS_MUNMAP, unix.SYS_MADVISE, unix.SYS_MPROTECT, unix.SYS_BRK,
	unix.SYS_RT_SIGACTION, unix.SYS_RT_SIGPROCMASK, unix.SYS_RT_SIGRETURN, unix.SYS_SIGALTSTACK, unix.SYS_TGKILL,
	unix.SYS_NANOSLEEP, unix.SYS_CLOCK_NANOSLEEP, unix.SYS_SCHED_YIELD, unix.SYS_SCHED_GETAFFINITY,
	unix.SYS_GETTID, unix.SYS_GETPID, unix.SYS_GETPPID, unix.SYS_GETUID, unix.SYS_GETEUID, unix.SYS_GETGID,
	unix.SYS_GETEGID, unix.SYS_EXIT, unix.SYS_EXIT_GROUP, unix.SYS_SET_ROBUST_LIST, unix.SYS_RSEQ,
	unix.SYS_SET_TID_ADDRESS, unix.SYS_GETRANDOM, unix.SYS_CLOCK_GETTIME, unix.SYS_SENDMSG,
}

// listen has the kernel ask a supervisor about each call of this process, and of all that descend from it.
// It returns the descriptor through which it asks.
func listen() (int, error) {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the number is the first word
	for i, number := range unseen {
		filter = append(filter, unix.SockFilter{
			Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jt: uint8(len(unseen) - i), K: number,
		})
	}
	filter = append(filter,
		unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_USER_NOTIF},
		unix.SockFilter{Code: unix.BPF_RET, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, os.NewSyscallError("prctl", err)
	}
	// A call that was received is answered, and not begun again because of a signal: it is counted once.
	const flags = unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_TSYNC |
		unix.SECCOMP_FILTER_FLAG_TSYNC_ESRCH | unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags,
		uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return -1, os.NewSyscallError("seccomp", errno)
	}
	return int(fd), nil
}

// A supervisor answers for the kernel, until the last process is gone that it is asked about.
type supervisor struct {
	record
	listener int
	host     int
	token    string       // in the environment of all that the host starts
	runtime  map[int]bool // descriptors of the host's that belong to the Go runtime
	fault    fault
}

func (s *supervisor) serve() {
	s.counts = make(map[string]int)
	for {
		ready := []unix.PollFd{{Fd: int32(s.listener), Events: unix.POLLIN}}
		_, err := unix.Poll(ready, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			s.err = err
			return
		}
		if ready[0].Revents&unix.POLLIN == 0 {
			return // none is left
		}
		var n notification
		err = s.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n))
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) { // it died
			continue
		}
		if err != nil {
			s.err = err
			return
		}
		a := s.answer(&n)
		if err := s.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&a)); err != nil && !errors.Is(err, unix.ENOENT) {
			s.err = err
			return
		}
	}
}

func (s *supervisor) ioctl(request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s.listener), request, uintptr(arg))
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return errno
		}
		return nil
	}
}

// answer lets the call through, or has it fail.
func (s *supervisor) answer(n *notification) answer {
	through := answer{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
	if _, err := os.Lstat(fmt.Sprintf("/proc/%d/task/%d", s.host, n.pid)); err != nil {
		return through // a child's
	}
	if n.number == unix.SYS_PRCTL {
		switch n.args[0] {
		case markBegin:
			s.began = true
			return through
		case markEnd:
			s.ended = true
			s.survivors = bearers(s.token)
			return through
		}
	}
	if !s.began || s.ended {
		return through
	}
	call, ok := s.kind(n)
	if !ok {
		return through
	}
	s.checkSignal(n)
	s.counts[call]++
	if call != s.fault.call || s.counts[call] != s.fault.n {
		return through
	}
	s.fired = true
	return answer{id: n.id, errno: -int32(s.fault.errno)}
}

// checkSignal notes the target of a signal that is not of the run. The call waits meanwhile, and the host pins
// what it names if the host is right.
func (s *supervisor) checkSignal(n *notification) {
	var targets []int
	switch n.number {
	case unix.SYS_KILL:
		pid := int(int32(n.args[0]))
		switch {
		case n.args[1] == 0:
		case pid == 0 || pid == -1:
			s.strangers = append(s.strangers, fmt.Sprintf("kill(%d)", pid))
		case pid < 0:
			targets = group(-pid)
		default:
			targets = []int{pid}
		}
	case unix.SYS_PIDFD_SEND_SIGNAL:
		if n.args[1] == 0 {
			return
		}
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", s.host, int32(n.args[0])))
		_, rest, _ := strings.Cut(string(text), "\nPid:")
		line, _, _ := strings.Cut(rest, "\n")
		if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil && pid > 0 {
			targets = []int{pid}
		}
	}
	for _, pid := range targets {
		if !s.ours(pid) {
			s.strangers = append(s.strangers, fmt.Sprintf("%d of %d", n.args[1], pid))
		}
	}
}

// ours reports whether a signal to the process does a stranger no harm: it descends from the host, or is gone.
func (s *supervisor) ours(pid int) bool {
	if environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err == nil {
		if len(environment) == 0 || bytes.Contains(environment, []byte(s.token)) {
			return true
		}
	} else if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return true
	}
	stat := stat(pid)
	return len(stat) < 2 || stat[0] == "Z" || stat[0] == "X" || stat[1] == strconv.Itoa(s.host)
}

// stat returns the fields of /proc/PID/stat from the state on.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

func processes() []int {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var list []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

func group(id int) []int {
	var list []int
	for _, pid := range processes() {
		if fields := stat(pid); len(fields) > 2 && fields[2] == strconv.Itoa(id) {
			list = append(list, pid)
		}
	}
	return list
}

// bearers returns the processes that run with the token in their environment, as "PID state".
func bearers(token string) []string {
	var list []string
	for _, pid := range processes() {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !bytes.Contains(environment, []byte(token)) {
			continue
		}
		if fields := stat(pid); len(fields) > 0 && fields[0] != "Z" && fields[0] != "X" {
			list = append(list, fmt.Sprintf("%d %s", pid, fields[0]))
		}
	}
	return list
}
