package sys

import (
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Sockets of others are asked about by their number in sock_diag(7), and never borrowed with
// pidfd_getfd(2): what is behind a descriptor changes with the next dup2(2) of its owner, and the
// close of a borrowed file drops the POSIX locks that this process has on it.

// A UnixSocket is what the kernel says of a Unix socket of our network namespace.
type UnixSocket struct {
	Path      string // "@…" is abstract; empty where there is none
	Listening bool
	Peer      uint64 // inode of the socket at the other end; 0 for none, or one that was not accepted yet
	Unread    int    // bytes; of a listening one how many wait to be accepted; -1 if unknown
}

// FindUnixSocket looks up a Unix socket by its inode. It does not block.
func FindUnixSocket(inode uint64) (UnixSocket, error) {
	const (
		showName, showPeer, showQueue = 1, 4, 16 // UDIAG_SHOW_…
		attrName, attrPeer, attrQueue = 0, 2, 4  // UNIX_DIAG_…
		header                        = 16       // struct unix_diag_msg
	)
	s := UnixSocket{Unread: -1}
	if inode != uint64(uint32(inode)) {
		return s, unix.ENOENT
	}
	var req [24]byte // struct unix_diag_req
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], ^uint32(0)) // in any state
	binary.NativeEndian.PutUint32(req[8:], uint32(inode))
	binary.NativeEndian.PutUint32(req[12:], showName|showPeer|showQueue)
	binary.NativeEndian.PutUint64(req[16:], ^uint64(0)) // with any cookie
	msg, err := sockDiag(req[:])
	if err != nil || len(msg) < header {
		return s, err
	}
	s.Listening = msg[2] == tcpListen
	eachAttribute(msg[header:], func(kind uint16, value []byte) {
		switch {
		case kind == attrName && len(value) > 0:
			if value[0] == 0 {
				value[0] = '@'
			}
			s.Path = unix.ByteSliceToString(value)
		case kind == attrPeer && len(value) >= 4:
			s.Peer = uint64(binary.NativeEndian.Uint32(value))
		case kind == attrQueue && len(value) >= 4:
			s.Unread = int(binary.NativeEndian.Uint32(value))
		}
	})
	return s, nil
}

// tcpListen is TCP_LISTEN, of Unix sockets as well.
const tcpListen = 10

// TCPSilence returns for how long nothing was received by the TCP socket of our network namespace that has
// the inode and the addresses. The kernel locks the socket for it, and waits for a process that is sending
// or receiving, for as long as the memory for that does not come.
func TCPSilence(inode uint64, local, remote netip.AddrPort) (time.Duration, error) {
	const (
		attrInfo    = 2  // INET_DIAG_INFO
		header      = 72 // struct inet_diag_msg
		inodeAt     = 68
		lastReceive = 52 // tcpi_last_data_recv in struct tcp_info
	)
	var req [56]byte // struct inet_diag_req_v2
	req[0], req[1], req[2] = unix.AF_INET, unix.IPPROTO_TCP, 1<<(attrInfo-1)
	if local.Addr().Is6() {
		req[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(req[4:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(req[8:], local.Port())
	binary.BigEndian.PutUint16(req[10:], remote.Port())
	copy(req[12:28], local.Addr().AsSlice())
	copy(req[28:44], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(req[48:], ^uint64(0)) // with any cookie
	msg, err := sockDiag(req[:])
	if err != nil {
		return -1, err
	}
	if len(msg) < header || uint64(binary.NativeEndian.Uint32(msg[inodeAt:])) != inode {
		return -1, unix.ENOENT // of another namespace
	}
	silence := time.Duration(-1)
	eachAttribute(msg[header:], func(kind uint16, value []byte) {
		if kind == attrInfo && len(value) >= lastReceive+4 {
			silence = time.Duration(binary.NativeEndian.Uint32(value[lastReceive:])) * time.Millisecond
		}
	})
	return silence, nil
}

// sockDiag asks about one socket, and returns the body of the answer.
func sockDiag(req []byte) ([]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	defer Close(fd)
	msg := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+len(req))
	binary.NativeEndian.PutUint32(msg, uint32(cap(msg)))
	binary.NativeEndian.PutUint16(msg[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(msg[6:], unix.NLM_F_REQUEST)
	msg = append(msg, req...)
	if _, err := Write(fd, msg); err != nil {
		return nil, err
	}
	answer := make([]byte, 4096) // the kernel has answered by now
	n, err := Read(fd, answer)
	if err != nil {
		return nil, err
	}
	answer = answer[:n]
	if n < unix.NLMSG_HDRLEN+4 {
		return nil, unix.EBADMSG
	}
	if binary.NativeEndian.Uint16(answer[4:]) == unix.NLMSG_ERROR {
		return nil, unix.Errno(-int32(binary.NativeEndian.Uint32(answer[unix.NLMSG_HDRLEN:])))
	}
	return answer[unix.NLMSG_HDRLEN:min(n, int(binary.NativeEndian.Uint32(answer)))], nil
}

// eachAttribute calls f with each struct rtattr in b.
func eachAttribute(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:]), b[unix.SizeofRtAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
