package sys

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanInspect reports whether the functions below do anything.
const CanInspect = true

// BorrowFD calls f with a duplicate of a descriptor of another process, close-on-exec, and closes
// it: pidfd_getfd(2), since 5.6. It needs PTRACE_MODE_ATTACH_REALCREDS. A pipe or socket of which
// pid has the last end stays open for as long as f runs.
func BorrowFD(pid, fd int, f func(fd int)) error {
	if !Enabled(Pidfd) {
		return unix.ENOSYS
	}
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer Close(handle)
	borrowed, err := unix.PidfdGetfd(handle, fd, 0)
	if err != nil {
		return err
	}
	defer Close(borrowed)
	f(borrowed)
	return nil
}

// ReadMemory reads memory of another process: process_vm_readv(2). It needs
// PTRACE_MODE_ATTACH_REALCREDS, and waits where a page of it comes from a file system that hangs.
func ReadMemory(pid int, addr uint64, p []byte) (int, error) {
	if len(p) == 0 || uint64(uintptr(addr)) != addr {
		return 0, unix.EFAULT
	}
	local := []unix.Iovec{{Base: &p[0]}}
	local[0].SetLen(len(p))
	remote := []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}
	n, err := unix.ProcessVMReadv(pid, local, remote, 0)
	return max(n, 0), err
}

// CPUTime returns the time that a process has spent on processors, all threads together: the clock
// of clock_getcpuclockid(3). It needs no permission.
func CPUTime(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// ClockNow returns what a clock of clock_gettime(2) shows.
func ClockNow(clock int32) (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// StopSignal returns the signal that stopped a child of ours, and leaves it to be waited for
// (waitid(2), WSTOPPED and WNOWAIT). It is 0 if the child is not stopped or somebody waited for it.
func StopSignal(pid int) syscall.Signal {
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOWAIT|unix.WNOHANG, nil)
	if err != nil || info.Signo == 0 {
		return 0
	}
	return childStatus(&info)
}

// childStatus returns si_status of what waitid(2) says of a child that did not exit by itself.
func childStatus(info *unix.Siginfo) syscall.Signal {
	// struct siginfo_t: three ints, padding where pointers have 8 bytes, si_pid, si_uid, si_status.
	offset := 3 * unsafe.Sizeof(int32(0))
	offset = (offset + unsafe.Sizeof(uintptr(0)) - 1) &^ (unsafe.Sizeof(uintptr(0)) - 1)
	raw := (*[unsafe.Sizeof(*info)]byte)(unsafe.Pointer(info))
	return syscall.Signal(binary.NativeEndian.Uint32(raw[offset+8:]))
}

// A SocketInfo is what a socket says of itself.
type SocketInfo struct {
	Family, Type, Protocol int
	Local, Remote          netip.AddrPort // of IPv4 and IPv6
	LocalPath, RemotePath  string         // of unix sockets; "@…" is abstract
	Connected              bool
	Listening              bool
	PeerPID                int   // of unix sockets: who connected, listened or made the pair; 0 if unknown
	State                  uint8 // of TCP
	Unread, Unsent         int   // bytes; -1 if unknown
	SinceReceived          time.Duration
	SinceSent              time.Duration // of TCP: since data was last received, and sent; -1 if unknown
}

// Families and types that a SocketInfo has.
const (
	FamilyUnix  = unix.AF_UNIX
	FamilyIPv4  = unix.AF_INET
	FamilyIPv6  = unix.AF_INET6
	SocketTCP   = unix.IPPROTO_TCP
	SocketUDP   = unix.IPPROTO_UDP
	SocketFlow  = unix.SOCK_STREAM
	SocketDgram = unix.SOCK_DGRAM
)

// InspectSocket asks a socket for its addresses, queues and state. It changes nothing.
func InspectSocket(fd int) (SocketInfo, error) {
	info := SocketInfo{Unread: -1, Unsent: -1, SinceReceived: -1, SinceSent: -1}
	var err error
	if info.Family, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); err != nil {
		return info, err
	}
	info.Type, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	info.Protocol, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	listening, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	info.Listening = listening != 0
	if sa, err := unix.Getsockname(fd); err == nil {
		info.Local, info.LocalPath = addressOrPath(sa)
	}
	if sa, err := unix.Getpeername(fd); err == nil {
		info.Connected = true
		info.Remote, info.RemotePath = addressOrPath(sa)
	}
	if info.Family == unix.AF_UNIX {
		if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			info.PeerPID = int(max(cred.Pid, 0))
		}
	}
	if !info.Listening {
		if n, err := unix.IoctlGetInt(fd, unix.SIOCINQ); err == nil {
			info.Unread = n
		}
		if n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ); err == nil {
			info.Unsent = n
		}
	}
	if info.Protocol == unix.IPPROTO_TCP {
		if tcp, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			info.State = tcp.State
			info.SinceReceived = time.Duration(tcp.Last_data_recv) * time.Millisecond
			info.SinceSent = time.Duration(tcp.Last_data_sent) * time.Millisecond
		}
	}
	return info, nil
}

func addressOrPath(sa unix.Sockaddr) (netip.AddrPort, string) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), ""
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), ""
	case *unix.SockaddrUnix:
		return netip.AddrPort{}, sa.Name
	}
	return netip.AddrPort{}, ""
}

// NotPermitted reports whether err says that we may not.
func NotPermitted(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// ReopenReader calls f with a new read end of a pipe, given the name of one in /proc/PID/fd; for where
// [BorrowFD] is missing. Not for FIFOs: an open may wait for us.
func ReopenReader(name string, f func(fd int)) error { return reopen(name, unix.O_RDONLY, f) }

// ReopenWriter does that with a write end.
func ReopenWriter(name string, f func(fd int)) error { return reopen(name, unix.O_WRONLY, f) }

func reopen(name string, mode int, f func(fd int)) error {
	fd, err := unix.Open(name, mode|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer Close(fd)
	f(fd)
	return nil
}
