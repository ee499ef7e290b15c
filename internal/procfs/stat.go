package procfs

import "bytes"

// Stat is what we use of /proc/PID/stat and /proc/PID/task/TID/stat, see proc_pid_stat(5).
type Stat struct {
	PID  int    // of a thread: its TID
	Comm string // name, chosen by the process, any bytes; at most 15, kernel threads up to 63

	// State is one letter: R S D T t Z X and rarer ones. A zombie (Z) has exited and waits to be
	// reaped; X is a moment of being reaped.
	State byte

	PPID    int // 0 where the parent is outside of our PID namespace
	PGRP    int // 0 where outside; -1 while being reaped
	Session int // likewise
	TTYNr   int // device number of the terminal, 0 for none
	TPGID   int // foreground group of that terminal, -1 for none
	Flags   uint32

	UTime      uint64 // clock ticks in user mode, all threads unless read from task/TID
	STime      uint64 // clock ticks in the kernel, likewise
	NumThreads int    // threads of the process that have not been released; 0 while being reaped

	// StartTime is in clock ticks since boot. With the PID it identifies a process as well as
	// /proc can: a PID that is reused within the same tick (10 ms) would match, which takes a lap
	// of pid_max in that time. It is shifted by the reader's time namespace, see
	// time_namespaces(7), so compare only what one process has read.
	StartTime uint64
}

// Dead reports whether this task has exited: it is a zombie or being reaped.
func (s Stat) Dead() bool { return s.State == 'Z' || s.State == 'X' || s.State == 'x' }

// Alive reports whether the process still has a thread that can run. A leader that has exited
// while other threads live is shown as a zombie but counts its threads. Alive is for the stat of a
// process; of a single thread only [Stat.Dead] says something. The zero Stat is not alive.
func (s Stat) Alive() bool {
	if s.State == 'Z' {
		return s.NumThreads > 1
	}
	return s.State != 0 && !s.Dead()
}

// ParseStat parses /proc/PID/stat. The name stands in parentheses and may itself hold parentheses,
// blanks, newlines and whole fake fields, so all that follows it is counted from the last ')': no
// later field can hold one. Fields after starttime are not looked at.
func ParseStat(data []byte) (Stat, error) {
	s, comm, err := parseStat(data)
	if err != nil {
		return Stat{}, err
	}
	s.Comm = string(comm)
	return s, nil
}

// parseStat leaves Comm empty and returns it as a part of data, for callers that need no string.
func parseStat(data []byte) (Stat, []byte, error) {
	var s Stat
	open := bytes.Index(data, []byte(" ("))
	if open < 0 {
		return s, nil, malformed("stat", "no name")
	}
	pid, ok := parseUint(data[:open], 10, 31)
	if !ok {
		return s, nil, malformed("stat", "pid")
	}
	s.PID = int(pid)
	data = data[open+len(" ("):]
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return s, nil, malformed("stat", "name does not end")
	}
	comm := data[:end]

	n := numbers{line: data[end+1:]}
	state := n.field()
	if len(state) != 1 || state[0]|0x20 < 'a' || state[0]|0x20 > 'z' {
		return s, nil, malformed("stat", "state")
	}
	s.State = state[0]
	s.PPID = n.pid()
	s.PGRP = n.pid()
	s.Session = n.pid()
	s.TTYNr = n.pid()
	s.TPGID = n.pid()
	s.Flags = uint32(n.uint(10, 32))
	n.skip(4) // minflt, cminflt, majflt, cmajflt
	s.UTime = n.uint(10, 64)
	s.STime = n.uint(10, 64)
	n.skip(4) // cutime, cstime, priority, nice
	s.NumThreads = n.pid()
	n.skip(1) // itrealvalue
	s.StartTime = n.uint(10, 64)
	// A number with nothing after it may have been cut off: "918" of "91828".
	if n.bad || len(n.rest()) == 0 {
		return s, nil, malformed("stat", "fields after the name")
	}
	return s, comm, nil
}

// statSize is more than the longest line: 63 bytes of name and 51 numbers of at most 20 digits.
const statSize = 1536

// ReadStat reads /proc/PID/stat: open, read, close, and one allocation for the name.
func ReadStat(pid int) (Stat, error) {
	return readNamedStat(file{place: inProcess, pid: pid, name: "stat"}, pid)
}

// ReadStatNoComm is [ReadStat] with Comm left empty and without any allocation, for the loops that
// look at many processes for their parent, session or start time.
func ReadStatNoComm(pid int) (Stat, error) {
	var buf [statSize]byte
	s, _, err := readStat(file{place: inProcess, pid: pid, name: "stat"}, pid, buf[:])
	return s, err
}

// ReadThreadStat reads /proc/PID/task/TID/stat. Times are the thread's own; parent, group, session
// and NumThreads are the process's.
func ReadThreadStat(pid, tid int) (Stat, error) {
	return readNamedStat(file{place: inThread, pid: pid, tid: tid, name: "stat"}, tid)
}

func readNamedStat(f file, want int) (Stat, error) {
	var buf [statSize]byte
	s, comm, err := readStat(f, want, buf[:])
	s.Comm = string(comm)
	return s, err
}

// readStat also checks that the file speaks of the process that was asked for: something laid over
// /proc may not. The name is a part of buf.
func readStat(f file, want int, buf []byte) (Stat, []byte, error) {
	n, err := readOnce(f, buf)
	if err != nil {
		return Stat{}, nil, err
	}
	s, comm, err := parseStat(buf[:n])
	if err == nil && want != Self && s.PID != want {
		err = malformed("stat", "another process")
	}
	if err != nil {
		return Stat{}, nil, f.fail("parse", err)
	}
	return s, comm, nil
}
