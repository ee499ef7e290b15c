package procfs

import "bytes"

// Status is what we use of /proc/PID/status, see proc_pid_status(5).
type Status struct {
	Name  string // as Stat.Comm
	Umask int    // -1 where it is not told: before Linux 4.7, and of a zombie
	State byte   // as Stat.State

	TGID      int   // the process of a thread
	NSPID     []int // PID in each PID namespace from the one of /proc inwards; empty before Linux 4.1
	PPID      int
	TracerPID int // 0 for none

	UID [4]uint32 // real, effective, saved, file system; as seen from our user namespace
	GID [4]uint32

	// Sets of signals: signal n is bit n-1.
	SigPnd uint64 // pending for the thread
	ShdPnd uint64 // pending for the process
	SigBlk uint64 // blocked by the thread
	SigIgn uint64 // ignored
	SigCgt uint64 // caught by a handler

	Threads    int // as Stat.NumThreads
	NoNewPrivs int // 1 or 0, or -1 where it is not told: before Linux 4.10
}

// HasSignal reports whether a set of signals, such as [Status.SigIgn], holds a signal.
func HasSignal(set uint64, signal int) bool {
	return signal >= 1 && signal <= 64 && set&(1<<(signal-1)) != 0
}

// The keys without which a status is malformed. They are everywhere and in this order, so that a
// text that has the last was not cut off before.
const (
	seenName = 1 << iota
	seenState
	seenTGID
	seenPPID
	seenUID
	seenGID
	seenThreads
	seenSigCgt
	seenAll = 1<<iota - 1
)

// ParseStatus parses /proc/PID/status. The name cannot forge a line: the kernel escapes newlines
// and backslashes in it, which is undone here.
func ParseStatus(data []byte) (Status, error) {
	s := Status{Umask: -1, NoNewPrivs: -1}
	seen := 0
	for len(data) > 0 {
		line, rest := cutLine(data)
		if rest == nil {
			break // cut off
		}
		data = rest
		key, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return Status{}, malformed("status", "line without colon")
		}
		mark, ok := s.set(key, value)
		if !ok {
			return Status{}, malformed("status", string(key))
		}
		seen |= mark
	}
	if seen != seenAll {
		return Status{}, malformed("status", "lines are missing")
	}
	return s, nil
}

// set stores one line. It returns the mark of a key that must be there.
func (s *Status) set(key, value []byte) (mark int, ok bool) {
	if string(key) == "Name" {
		s.Name = unescapeName(bytes.TrimPrefix(value, []byte("\t")))
		return seenName, true
	}
	n := numbers{line: value}
	switch string(key) {
	case "Umask":
		s.Umask = int(n.uint(8, 12))
	case "State":
		letter := n.field()
		if len(letter) != 1 {
			return 0, false
		}
		s.State = letter[0]
		return seenState, true // a word in parentheses follows
	case "Tgid":
		s.TGID, mark = n.pid(), seenTGID
	case "NSpid":
		s.NSPID, ok = parsePIDs(value)
		return 0, ok
	case "PPid":
		s.PPID, mark = n.pid(), seenPPID
	case "TracerPid":
		s.TracerPID = n.pid()
	case "Uid":
		s.UID, mark = n.ids(), seenUID
	case "Gid":
		s.GID, mark = n.ids(), seenGID
	case "Threads":
		s.Threads, mark = n.pid(), seenThreads
	case "SigPnd":
		s.SigPnd = n.uint(16, 64)
	case "ShdPnd":
		s.ShdPnd = n.uint(16, 64)
	case "SigBlk":
		s.SigBlk = n.uint(16, 64)
	case "SigIgn":
		s.SigIgn = n.uint(16, 64)
	case "SigCgt":
		s.SigCgt, mark = n.uint(16, 64), seenSigCgt
	case "NoNewPrivs":
		s.NoNewPrivs = int(n.uint(10, 1))
	default:
		return 0, true
	}
	return mark, !n.bad && len(trimLeft(n.rest())) == 0
}

func (n *numbers) ids() (ids [4]uint32) {
	for i := range ids {
		ids[i] = uint32(n.uint(10, 32))
	}
	return ids
}

// unescapeName undoes \n and \\, the only escapes of seq_escape_str in this file. Others stay.
func unescapeName(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	name := make([]byte, 0, len(b))
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c == '\\' && i+1 < len(b) {
			switch b[i+1] {
			case 'n':
				c = '\n'
				i++
			case '\\':
				i++
			}
		}
		name = append(name, c)
	}
	return string(name)
}

// statusLimit allows for the 65536 supplementary groups a process may have.
const statusLimit = 1 << 20

// ReadStatus reads /proc/PID/status. It costs several times a [ReadStat].
func ReadStatus(pid int) (Status, error) {
	return parseFile(file{place: inProcess, pid: pid, name: "status"}, statusLimit, ParseStatus)
}

// ReadThreadStatus reads /proc/PID/task/TID/status: SigPnd, SigBlk and State are the thread's own.
func ReadThreadStatus(pid, tid int) (Status, error) {
	return parseFile(file{place: inThread, pid: pid, tid: tid, name: "status"}, statusLimit, ParseStatus)
}
