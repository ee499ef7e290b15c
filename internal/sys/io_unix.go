//go:build linux || darwin || freebsd || openbsd || netbsd

package sys

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Read reads from fd once. EAGAIN means that a non-blocking descriptor has nothing at the moment.
func Read(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// Write writes to fd once. EAGAIN means that a non-blocking descriptor has no room at the moment,
// EPIPE that there is no reader.
func Write(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Write(fd, p)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// Close closes fd. It is not repeated on EINTR: the descriptor is gone either way on Linux
// (close(2)), and a second close could hit another's.
func Close(fd int) { _ = unix.Close(fd) }

// Searchable returns why this process cannot make dir its working directory, as far as permissions go.
func Searchable(dir string) error {
	for {
		err := unix.Faccessat(unix.AT_FDCWD, dir, unix.X_OK, unix.AT_EACCESS)
		if err != unix.EINTR {
			return err
		}
	}
}

// SetNonblock sets O_NONBLOCK on fd's open file description.
func SetNonblock(fd int) error { return unix.SetNonblock(fd, true) }

// Unread returns how many bytes wait in the pipe behind fd.
func Unread(fd int) (int, error) { return unix.IoctlGetInt(fd, fionread) }

// A Readiness says what poll(2) found of one descriptor.
type Readiness struct {
	Readable bool // a read will not block; at the end of a pipe as well
	Writable bool // a write will not block; also when there is no reader
	Hangup   bool // no writer is left, or no reader
}

// Ready asks without waiting.
func Ready(fd int) (Readiness, error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	for {
		_, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		re := fds[0].Revents
		return Readiness{
			Readable: re&unix.POLLIN != 0,
			Writable: re&unix.POLLOUT != 0,
			Hangup:   re&(unix.POLLHUP|unix.POLLERR|unix.POLLNVAL) != 0,
		}, err
	}
}

// Dup duplicates fd, close-on-exec.
func Dup(fd int) (int, error) {
	for {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Inode returns the inode number of fd's file, which names a pipe in /proc/PID/fd.
func Inode(fd int) (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return uint64(st.Ino), nil //nolint:unconvert // narrower on some platforms
}
