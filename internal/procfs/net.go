package procfs

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
)

// SocketTable is a file of /proc/PID/net that lists TCP or UDP sockets.
type SocketTable string

// The tables of TCP and UDP sockets, see proc_pid_net(5).
const (
	TableTCP  SocketTable = "tcp"
	TableTCP6 SocketTable = "tcp6"
	TableUDP  SocketTable = "udp"
	TableUDP6 SocketTable = "udp6"
)

// SocketState is a state of TCP. A UDP socket is ESTABLISHED when it is connected, else CLOSE.
type SocketState uint8

var socketStates = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
	8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
}

// String returns the name that the kernel and ss(8) use.
func (s SocketState) String() string {
	if int(s) < len(socketStates) && socketStates[s] != "" {
		return socketStates[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Socket is one row of /proc/PID/net/tcp, tcp6, udp or udp6.
type Socket struct {
	Local  netip.AddrPort // an IPv4 peer of an IPv6 socket is in the mapped form; zones are not told
	Remote netip.AddrPort // all zero where there is none
	State  SocketState

	// TxQueue is bytes sent and not acknowledged. RxQueue is bytes not read yet; of a TCP listener,
	// connections not accepted yet.
	TxQueue uint32
	RxQueue uint32

	UID   uint32
	Inode uint64 // as in socket:[INODE]; 0 once no descriptor refers to it (TIME_WAIT)
}

// ParseSocket parses one row.
func ParseSocket(line []byte) (Socket, error) {
	n := numbers{line: line}
	slot, ok := bytes.CutSuffix(n.field(), []byte(":"))
	if _, isNumber := parseUint(slot, 10, 64); !ok || !isNumber {
		return Socket{}, malformed("net", "slot")
	}
	var s Socket
	var ok1, ok2 bool
	s.Local, ok1 = parseAddrPort(n.field(), binary.NativeEndian)
	s.Remote, ok2 = parseAddrPort(n.field(), binary.NativeEndian)
	if !ok1 || !ok2 || s.Local.Addr().BitLen() != s.Remote.Addr().BitLen() {
		return Socket{}, malformed("net", "address")
	}
	s.State = SocketState(n.uint(16, 8))
	tx, rx, ok := bytes.Cut(n.field(), []byte(":"))
	txQueue, ok1 := parseUint(tx, 16, 32)
	rxQueue, ok2 := parseUint(rx, 16, 32)
	if !ok || !ok1 || !ok2 {
		return Socket{}, malformed("net", "queues")
	}
	s.TxQueue, s.RxQueue = uint32(txQueue), uint32(rxQueue)
	n.skip(2) // timer, retransmissions
	s.UID = uint32(n.uint(10, 32))
	n.skip(1) // timeout
	s.Inode = n.uint(10, 64)
	if n.bad {
		return Socket{}, malformed("net", "numbers")
	}
	return s, nil
}

// parseAddrPort parses 0100007F:1F90. The kernel prints each 32-bit word of the address, which lies
// in network order in its memory, as a number of its own byte order; the port is printed as the
// number it is.
func parseAddrPort(b []byte, order binary.ByteOrder) (netip.AddrPort, bool) {
	const word = 8 // hexadecimal digits
	hex, portHex, ok := bytes.Cut(b, []byte(":"))
	port, isPort := parseUint(portHex, 16, 16)
	if !ok || !isPort || len(hex) != word && len(hex) != 4*word {
		return netip.AddrPort{}, false
	}
	var raw [16]byte
	for i := 0; i < len(hex); i += word {
		v, ok := parseUint(hex[i:i+word], 16, 32)
		if !ok {
			return netip.AddrPort{}, false
		}
		order.PutUint32(raw[i/2:], uint32(v))
	}
	addr := netip.AddrFrom16(raw)
	if len(hex) == word {
		addr = netip.AddrFrom4([4]byte(raw[:4]))
	}
	return netip.AddrPortFrom(addr, uint16(port)), true
}

// ParseSockets parses a whole table, with or without its heading. Rows that parse are returned even
// with an error.
func ParseSockets(data []byte) ([]Socket, error) {
	if line, rest := cutLine(data); isHeading(line) {
		data = rest
	}
	return parseRows("net", data, ParseSocket)
}

// isHeading recognizes the first line of the tables of sockets.
func isHeading(line []byte) bool {
	first, _ := cutField(line)
	return string(first) == "sl" || string(first) == "Num"
}

// maxSockets bounds what a reader keeps of a table.
const maxSockets = 1 << 16

// ReadSockets reads a table of the network namespace of a process and returns the rows whose inode
// is wanted: tables are long, so only those are kept. A nil function wants all. Beyond 65536 rows
// the first ones come with ErrTooBig. A socket may live in another network namespace than the
// process that holds it, and is then not found.
func ReadSockets(pid int, table SocketTable, wanted func(inode uint64) bool) ([]Socket, error) {
	return readTable(pid, string(table), ParseSocket, func(s Socket) bool {
		return wanted == nil || wanted(s.Inode)
	})
}

func readTable[T any](pid int, table string, parse func(line []byte) (T, error), wanted func(T) bool) ([]T, error) {
	f := file{place: inProcess, pid: pid, name: "net/" + table}
	var rows []T
	var first error
	err := readLines(f, func(line []byte) bool {
		row, err := parse(line)
		switch {
		case err != nil && isHeading(line):
		case err != nil && first == nil:
			first = f.fail("parse", err)
		case err == nil && wanted(row) && len(rows) == maxSockets:
			first = f.fail("read", ErrTooBig)
			return false
		case err == nil && wanted(row):
			rows = append(rows, row)
		}
		return true
	})
	if err == nil {
		err = first
	}
	return rows, err
}
