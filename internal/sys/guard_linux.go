package sys

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// Memfd makes a file that has no name and lives as long as it is open somewhere (memfd_create(2)). It
// cannot be executed, which Linux 6.3 and later want to be told.
func Memfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// SocketPair makes two connected sockets, unix(7): each says when the other one is closed everywhere.
func SocketPair() (a, b *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// IsPairOf reports whether fd is a socket that SocketPair has made in the process of that PID, of this user
// (unix(7), SO_PEERCRED).
func IsPairOf(fd, pid int) bool {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || kind != unix.SOCK_SEQPACKET {
		return false
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	return err == nil && int(cred.Pid) == pid && int(cred.Uid) == unix.Geteuid()
}

// Privileges reports whether execve gave this process privileges that it did not have before (getauxval(3),
// AT_SECURE), or whether that is unknown.
func Privileges() bool {
	const secure = 23
	values, err := unix.Auxv()
	if err != nil {
		return true
	}
	for _, v := range values {
		if v[0] == secure {
			return v[1] != 0
		}
	}
	return true
}
