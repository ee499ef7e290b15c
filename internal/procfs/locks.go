package procfs

import (
	"bytes"
	"math"
)

// LockKind is how a lock was taken.
type LockKind uint8

// The kinds of locks in /proc/locks.
const (
	LockOther LockKind = iota
	LockFlock          // flock(2)
	LockPOSIX          // fcntl(2) F_SETLK; also mandatory ones, "ACCESS"
	LockOFD            // fcntl(2) F_OFD_SETLK
	LockLease          // fcntl(2) F_SETLEASE
	LockDeleg          // delegation of an NFS server
)

var lockKinds = [...]string{"OTHER", "FLOCK", "POSIX", "OFDLCK", "LEASE", "DELEG"}

func (k LockKind) String() string {
	if int(k) < len(lockKinds) {
		return lockKinds[k]
	}
	return lockKinds[LockOther]
}

// LockMode is what a lock allows to others.
type LockMode uint8

// The modes of locks in /proc/locks.
const (
	LockNone      LockMode = iota // UNLCK, NONE or one we do not know
	LockRead                      // shared
	LockWrite                     // exclusive
	LockReadWrite                 // RW, of old flock LOCK_MAND only
)

var lockModes = [...]string{"NONE", "READ", "WRITE", "RW"}

func (m LockMode) String() string {
	if int(m) < len(lockModes) {
		return lockModes[m]
	}
	return lockModes[LockNone]
}

// Lock is one row of /proc/locks, see proc_locks(5).
type Lock struct {
	// ID numbers the locks of one reading. A blocked row bears the number of the lock it waits for.
	ID      int
	Blocked bool // "->": it waits and holds nothing

	Kind LockKind
	Mode LockMode

	// PID took the lock, or waits for it. It is -1 for an OFD lock, which belongs to an open file
	// and to no process. A flock outlives PID while another process holds the same open file.
	PID int

	Major, Minor uint32 // of the file system, as in Mount; zero where there is no inode
	Inode        uint64 // of the file; zero likewise
	Start        int64  // first byte
	End          int64  // last byte; math.MaxInt64 for EOF: all that will ever be there
}

// ParseLock parses one row of /proc/locks or one lock of /proc/PID/fdinfo/FD.
func ParseLock(line []byte) (Lock, error) {
	n := numbers{line: line}
	id, ok := bytes.CutSuffix(n.field(), []byte(":"))
	v, ok2 := parseUint(id, 10, 31)
	if !ok || !ok2 {
		return Lock{}, malformed("locks", "id")
	}
	l := Lock{ID: int(v)}
	kind := n.field()
	if string(kind) == "->" {
		l.Blocked = true
		kind = n.field()
	}
	switch string(kind) {
	case "FLOCK":
		l.Kind = LockFlock
	case "POSIX", "ACCESS":
		l.Kind = LockPOSIX
	case "OFDLCK":
		l.Kind = LockOFD
	case "LEASE":
		l.Kind = LockLease
	case "DELEG":
		l.Kind = LockDeleg
	}
	n.skip(1) // ADVISORY, MANDATORY, ACTIVE, BREAKING …
	switch string(n.field()) {
	case "READ":
		l.Mode = LockRead
	case "WRITE":
		l.Mode = LockWrite
	case "RW":
		l.Mode = LockReadWrite
	}
	l.PID = n.pid()
	if !l.setFile(n.field()) {
		return Lock{}, malformed("locks", "file")
	}
	l.Start = n.int(64)
	if end := n.field(); string(end) == "EOF" {
		l.End = math.MaxInt64
	} else if l.End, ok = parseInt(end, 64); !ok {
		n.bad = true
	}
	if n.bad || len(trimLeft(n.rest())) > 0 {
		return Lock{}, malformed("locks", "numbers")
	}
	return l, nil
}

// setFile parses fe:00:9994257, the device in hexadecimal, or <none>:0.
func (l *Lock) setFile(f []byte) bool {
	if string(f) == "<none>:0" {
		return true
	}
	major, rest, ok1 := bytes.Cut(f, []byte(":"))
	minor, inode, ok2 := bytes.Cut(rest, []byte(":"))
	maj, ok3 := parseUint(major, 16, 32)
	mnr, ok4 := parseUint(minor, 16, 32)
	ino, ok5 := parseUint(inode, 10, 64)
	l.Major, l.Minor, l.Inode = uint32(maj), uint32(mnr), ino
	return ok1 && ok2 && ok3 && ok4 && ok5
}

// ParseLocks parses /proc/locks: each lock is followed by the rows that are blocked by it. Rows
// that parse are returned even with an error. Of the file, processes choose only the ranges.
func ParseLocks(data []byte) ([]Lock, error) { return parseRows("locks", data, ParseLock) }

// ReadLocks reads /proc/locks. Locks of processes outside of our PID namespace are missing.
func ReadLocks() ([]Lock, error) {
	return parseFile(file{name: "locks"}, 8<<20, ParseLocks)
}
