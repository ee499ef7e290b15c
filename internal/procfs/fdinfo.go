package procfs

import (
	"bytes"
	"strconv"
)

// FDInfo is what we use of /proc/PID/fdinfo/FD, see proc_pid_fdinfo(5).
type FDInfo struct {
	Pos     int64
	Flags   uint32 // as of open(2), O_CLOEXEC included
	MountID int    // as Mount.ID
	Inode   uint64 // 0 before Linux 5.14

	// Pidfd says that this is one. PID is then whom it refers to: -1 once that process has been
	// reaped, 0 where it is outside of the PID namespace of /proc.
	Pidfd bool
	PID   int

	Epoll []EpollTarget // what an epoll descriptor watches
	Locks []Lock        // locks held through this descriptor; on files only
}

// The flags of open(2) that CanRead and the like look at. They are the same on every architecture
// that Go runs Linux on; package syscall does not have them on other systems.
const (
	flagAccMode = 0o3
	flagWrOnly  = 0o1
	flagRdWr    = 0o2
	flagCloexec = 0o2000000
	flagPath    = 0o10000000
)

// CanRead reports whether the descriptor was opened for reading.
func (i FDInfo) CanRead() bool {
	return i.Flags&flagPath == 0 && (i.Flags&flagAccMode == 0 || i.Flags&flagAccMode == flagRdWr)
}

// CanWrite reports whether the descriptor was opened for writing: of a pipe, that it keeps the
// reader from seeing the end.
func (i FDInfo) CanWrite() bool {
	return i.Flags&flagPath == 0 && (i.Flags&flagAccMode == flagWrOnly || i.Flags&flagAccMode == flagRdWr)
}

// CloseOnExec reports whether execve(2) closes the descriptor.
func (i FDInfo) CloseOnExec() bool { return i.Flags&flagCloexec != 0 }

// EpollTarget is one descriptor that an epoll descriptor watches.
type EpollTarget struct {
	FD     int    // its number when it was added; may by now be another file, see epoll(7)
	Events uint32 // as of epoll_ctl(2)
	Data   uint64
	Inode  uint64 // 0 before Linux 4.13
}

// ParseFDInfo parses /proc/PID/fdinfo/FD. Lines it does not know are passed over.
func ParseFDInfo(data []byte) (FDInfo, error) {
	var i FDInfo
	var pos, flags bool
	for len(data) > 0 {
		line, rest := cutLine(data)
		if rest == nil {
			return i, malformed("fdinfo", "last line is cut off")
		}
		data = rest
		key, value, _ := bytes.Cut(line, []byte(":"))
		n := numbers{line: value}
		switch string(key) {
		case "pos":
			i.Pos, pos = n.int(64), true
		case "flags":
			i.Flags, flags = uint32(n.uint(8, 32)), true
		case "mnt_id":
			i.MountID = n.pid()
		case "ino":
			i.Inode = n.uint(10, 64)
		case "Pid":
			i.Pidfd, i.PID = true, n.pid()
		case "tfd":
			t, ok := parseEpollTarget(value)
			n.bad = !ok
			i.Epoll = append(i.Epoll, t)
		case "lock":
			l, err := ParseLock(value)
			n.bad = err != nil
			i.Locks = append(i.Locks, l)
		}
		if n.bad {
			return FDInfo{}, malformed("fdinfo", string(key))
		}
	}
	if !pos || !flags {
		return FDInfo{}, malformed("fdinfo", "lines are missing")
	}
	return i, nil
}

// parseEpollTarget parses "5 events: 19 data: 5  pos:0 ino:1f65d sdev:f", numbers but the first in
// hexadecimal.
func parseEpollTarget(b []byte) (EpollTarget, bool) {
	n := numbers{line: b}
	t := EpollTarget{FD: int(n.uint(10, 31))}
	if string(n.field()) != "events:" {
		return EpollTarget{}, false
	}
	t.Events = uint32(n.uint(16, 32))
	if string(n.field()) != "data:" {
		return EpollTarget{}, false
	}
	t.Data = n.uint(16, 64)
	n.field() // pos:
	if inode, ok := bytes.CutPrefix(n.field(), []byte("ino:")); ok {
		if t.Inode, ok = parseUint(inode, 16, 64); !ok {
			n.bad = true
		}
	}
	if n.bad {
		return EpollTarget{}, false
	}
	return t, true
}

// fdinfoLimit allows for ten thousand descriptors in an epoll set.
const fdinfoLimit = 1 << 20

// ReadFDInfo reads /proc/PID/fdinfo/FD. It needs the same permission as [WalkFDs]. Of an epoll set
// of tens of thousands the beginning is returned with ErrTooBig.
func ReadFDInfo(pid, fd int) (FDInfo, error) {
	f := file{place: inProcess, pid: pid, name: "fdinfo/" + strconv.Itoa(fd)}
	return parseFile(f, fdinfoLimit, ParseFDInfo)
}

// ReadThreadFDInfo is [ReadFDInfo] for a descriptor of one thread, in /proc/PID/task/TID/fdinfo.
func ReadThreadFDInfo(pid, tid, fd int) (FDInfo, error) {
	f := file{place: inThread, pid: pid, tid: tid, name: "fdinfo/" + strconv.Itoa(fd)}
	return parseFile(f, fdinfoLimit, ParseFDInfo)
}
