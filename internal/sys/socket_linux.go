package sys

import (
	"fmt"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// A Socket is what the kernel says about one of our own sockets.
type Socket struct {
	Network   string // "tcp", "udp", "unix", "netlink" …
	Local     string // address, or the path of a Unix socket; empty where there is none
	Remote    string
	Listening bool
	TCPState  uint8 // as in /proc/net/tcp; 0 unless Network is "tcp"
	Unread    int   // bytes received and not read; of a TCP listener 0
	Unsent    int   // bytes sent and not acknowledged; of a Unix socket the memory of what is not read
}

// SocketOf describes the socket behind fd.
func SocketOf(fd int) (Socket, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return Socket{}, err
	}
	kind, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	protocol, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	listening, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	s := Socket{Network: network(domain, kind, protocol), Listening: listening != 0}
	if local, err := unix.Getsockname(fd); err == nil {
		s.Local = address(local)
	}
	if remote, err := unix.Getpeername(fd); err == nil {
		s.Remote = address(remote)
	}
	if s.Network == "tcp" {
		if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			s.TCPState = info.State
		}
	}
	if !s.Listening {
		s.Unread, _ = unix.IoctlGetInt(fd, unix.SIOCINQ)
		s.Unsent, _ = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	}
	return s, nil
}

func network(domain, kind, protocol int) string {
	switch domain {
	case unix.AF_UNIX:
		return "unix"
	case unix.AF_NETLINK:
		return "netlink"
	case unix.AF_PACKET:
		return "packet"
	case unix.AF_VSOCK:
		return "vsock"
	case unix.AF_INET, unix.AF_INET6:
		switch {
		case kind == unix.SOCK_STREAM && (protocol == unix.IPPROTO_TCP || protocol == unix.IPPROTO_MPTCP):
			return "tcp"
		case kind == unix.SOCK_DGRAM && protocol == unix.IPPROTO_UDP:
			return "udp"
		}
		return "ip protocol " + strconv.Itoa(protocol)
	}
	return "family " + strconv.Itoa(domain)
}

func address(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr)
		if sa.ZoneId != 0 {
			addr = addr.WithZone(strconv.Itoa(int(sa.ZoneId)))
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port)).String()
	case *unix.SockaddrUnix:
		if sa.Name == "@" { // an abstract name begins so; this is none at all
			return ""
		}
		return sa.Name
	case *unix.SockaddrVM:
		return fmt.Sprintf("%d:%d", sa.CID, sa.Port)
	}
	return ""
}
