package procfs

import (
	"bytes"
	"errors"
	"fmt"
)

// UnixSocket is one row of /proc/PID/net/unix, see proc_pid_net(5) and unix(7).
type UnixSocket struct {
	Inode     uint64 // as in socket:[INODE]; 0 for a connection that was not accepted yet
	Type      UnixType
	State     UnixState
	Listening bool

	// Path is the name it was bound to, empty where there is none; "@…" is abstract, its NULs shown
	// as '@'. The name is the process's to choose and the kernel does not escape it: see
	// [ParseUnixSockets].
	Path string
}

// UnixType is the type of a socket, see socket(2).
type UnixType uint16

func (t UnixType) String() string {
	switch t {
	case 1:
		return "STREAM"
	case 2:
		return "DGRAM"
	case 5:
		return "SEQPACKET"
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// UnixState is the state of a socket as the file prints it.
type UnixState uint8

var unixStates = [...]string{"FREE", "UNCONNECTED", "CONNECTING", "CONNECTED", "DISCONNECTING"}

func (s UnixState) String() string {
	if int(s) < len(unixStates) {
		return unixStates[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// flagAcceptCon is __SO_ACCEPTCON of the kernel: listen(2) was called.
const flagAcceptCon = 1 << 16

// ParseUnixSocket parses one row, without its newline. What follows the blank after the inode is
// the path, blanks included.
func ParseUnixSocket(line []byte) (UnixSocket, error) {
	n := numbers{line: line}
	num, ok := bytes.CutSuffix(n.field(), []byte(":"))
	if _, isHex := parseUint(num, 16, 64); !ok || !isHex {
		return UnixSocket{}, malformed("unix", "slot")
	}
	n.uint(16, 32) // references
	n.uint(16, 32) // protocol
	flags := n.uint(16, 32)
	s := UnixSocket{
		Listening: flags&flagAcceptCon != 0,
		Type:      UnixType(n.uint(16, 16)),
		State:     UnixState(n.uint(16, 8)),
		Inode:     n.uint(10, 64),
	}
	if n.bad {
		return UnixSocket{}, malformed("unix", "fields")
	}
	s.Path = string(bytes.TrimPrefix(n.rest(), []byte(" ")))
	return s, nil
}

// ParseUnixSockets parses the whole table. A name may hold newlines: a line that is no row belongs
// to the path before it. A name may also hold a newline and then what *is* a row, with any inode:
// that cannot be told from a real one, so a row is a hint and never a proof. The true row of a
// socket is always there; where an inode comes twice, at least one is forged.
func ParseUnixSockets(data []byte) ([]UnixSocket, error) {
	var t unixTable
	for len(data) > 0 {
		line, rest := cutLine(data)
		if rest == nil || !t.add(line) {
			break
		}
		data = rest
	}
	if t.err == nil && len(data) > 0 {
		t.err = malformed("unix", "last row is cut off")
	}
	return t.rows, t.err
}

// unixTable collects rows from lines.
type unixTable struct {
	wanted func(inode uint64) bool // nil wants all
	rows   []UnixSocket
	last   *UnixSocket // the row that a line which is none would continue; nil if it was not wanted
	begun  bool        // a row or the heading has been seen
	err    error       // the first
}

// maxUnixPath is sun_path of unix(7). Longer paths are not continued.
const maxUnixPath = 108

func (t *unixTable) add(line []byte) bool {
	row, err := ParseUnixSocket(line)
	switch {
	case err == nil:
		t.last, t.begun = nil, true
		if t.wanted != nil && !t.wanted(row.Inode) {
			return true
		}
		if len(t.rows) == maxSockets {
			t.err = ErrTooBig
			return false
		}
		t.rows = append(t.rows, row)
		t.last = &t.rows[len(t.rows)-1]
	case !t.begun && isHeading(line):
		t.begun = true
	case !t.begun && t.err == nil:
		t.err = err
	case t.last != nil && len(t.last.Path)+1+len(line) <= maxUnixPath:
		t.last.Path += "\n" + string(line)
	}
	return true
}

// ReadUnixSockets reads the sockets of the network namespace of a process, as [ReadSockets] does,
// with the reservation of [ParseUnixSockets].
func ReadUnixSockets(pid int, wanted func(inode uint64) bool) ([]UnixSocket, error) {
	f := file{place: inProcess, pid: pid, name: "net/unix"}
	t := unixTable{wanted: wanted}
	err := readLines(f, t.add)
	switch {
	case err != nil:
	case errors.Is(t.err, ErrTooBig):
		err = f.fail("read", t.err)
	case t.err != nil:
		err = f.fail("parse", t.err)
	}
	return t.rows, err
}
