package sys

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// OpenPTY makes a pseudo-terminal of the given size, pty(7), close-on-exec at both ends. The master does not block.
// The slave is opened by the master and not by a path: another devpts may be mounted, or none (TIOCGPTPEER,
// ioctl_tty(2)).
func OpenPTY(rows, cols uint16) (master, slave int, err error) {
	for {
		master, err = unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return -1, -1, err
	}
	if err = unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err == nil {
		err = ResizePTY(master, rows, cols)
	}
	if err != nil {
		Close(master)
		return -1, -1, err
	}
	peer, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		Close(master)
		return -1, -1, errno
	}
	return master, int(peer), nil
}

// ResizePTY sets the size of a terminal. If it is another one the foreground process group gets SIGWINCH.
func ResizePTY(fd int, rows, cols uint16) error {
	return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

// GivePTY makes the user of a process with attr the owner of a slave, so that the process may open it by name.
func GivePTY(slave int, attr *syscall.SysProcAttr) {
	if attr != nil && attr.Credential != nil {
		_ = unix.Fchown(slave, int(attr.Credential.Uid), -1) // without, all but the name works
	}
}

// NewTerminal makes the process of attr, which leads a session, take its descriptor fd for its controlling terminal.
// It reports false where attr asks for another.
func NewTerminal(attr *syscall.SysProcAttr, fd int) bool {
	if attr.Setctty || attr.Noctty || attr.Foreground {
		return false
	}
	attr.Setctty, attr.Ctty = true, fd
	return true
}

// FileKey identifies an open file that has a name, such as a terminal, for as long as a process has it open. It is
// never the inode number of a pipe.
func FileKey(fd int) (uint64, error) {
	return fileKey(fd, "", unix.AT_EMPTY_PATH)
}

// FileKeyAt is FileKey of what path leads to.
func FileKeyAt(path string) (uint64, error) { return fileKey(unix.AT_FDCWD, path, 0) }

// IsFileKey reports whether it is one.
func IsFileKey(key uint64) bool { return key>>63 != 0 }

// fileKey is beyond all numbers of pipes, which have 32 bits. A server that does not answer is not asked: see [FileOf].
func fileKey(dir int, path string, flags int) (uint64, error) {
	st, err := statx(dir, path, flags, unix.STATX_INO)
	if err != nil {
		return 0, err
	}
	return 1<<63 | (unix.Mkdev(st.Dev_major, st.Dev_minor)&(1<<31-1))<<32 | st.Ino&(1<<32-1), nil
}
