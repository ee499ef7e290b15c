package procfs

import "bytes"

// Syscall is /proc/PID/syscall, see proc_pid_syscall(5): where a thread is in the kernel.
type Syscall struct {
	// Running: the thread is on a processor or about to be, and the kernel says no more.
	Running bool

	// Number is the system call the thread is blocked in, by the numbers of its own architecture:
	// those of a 32-bit program differ. It is -1 where the thread runs, or is blocked outside of a
	// system call (a page fault, a stop), or has exited.
	Number int
	Args   [6]uint64 // all registers, also where the call takes fewer
	SP     uint64
	PC     uint64
}

// ParseSyscall parses the three forms of /proc/PID/syscall: "running", "-1 SP PC" and
// "NUMBER ARG1 … ARG6 SP PC".
func ParseSyscall(data []byte) (Syscall, error) {
	line, rest := cutLine(data)
	if rest == nil || len(rest) > 0 {
		return Syscall{}, malformed("syscall", "not one line")
	}
	if string(line) == "running" {
		return Syscall{Running: true, Number: -1}, nil
	}
	n := numbers{line: line}
	s := Syscall{Number: int(n.int(32))}
	if s.Number != -1 {
		for i := range s.Args {
			s.Args[i] = n.hex()
		}
	}
	s.SP, s.PC = n.hex(), n.hex()
	if n.bad || s.Number < -1 || len(trimLeft(n.rest())) > 0 {
		return Syscall{}, malformed("syscall", "fields")
	}
	return s, nil
}

func (n *numbers) hex() uint64 {
	v, ok := parseHex(n.field())
	n.bad = n.bad || !ok
	return v
}

// ReadSyscall reads /proc/PID/task/TID/syscall; the leader's TID is the PID. It needs
// PTRACE_MODE_ATTACH_FSCREDS, see ptrace(2): under Yama only for our own descendants. The refusal
// comes as EPERM from read, not from open, and matches fs.ErrPermission.
func ReadSyscall(pid, tid int) (Syscall, error) {
	return parseFile(file{place: inThread, pid: pid, tid: tid, name: "syscall"}, 4<<10, ParseSyscall)
}

// ParseWchan parses /proc/PID/wchan, see proc_pid_wchan(5): the function of the kernel in which a
// thread is blocked, empty for "0". That stands for a thread that runs as well as for one we may
// not look at: it proves nothing.
func ParseWchan(data []byte) string {
	data = bytes.TrimRight(data, "\n\x00")
	if string(data) == "0" {
		return ""
	}
	return string(data)
}

// ReadWchan reads /proc/PID/task/TID/wchan; the leader's TID is the PID.
func ReadWchan(pid, tid int) (string, error) {
	return parseFile(file{place: inThread, pid: pid, tid: tid, name: "wchan"}, 4<<10,
		func(data []byte) (string, error) { return ParseWchan(data), nil })
}
