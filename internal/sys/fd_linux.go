package sys

import (
	"errors"
	"math"

	"golang.org/x/sys/unix"
)

// MarkRange sets close-on-exec on every descriptor from first to last, both included, in one call
// whose cost does not depend on how many are open (close_range(2), CLOSE_RANGE_CLOEXEC, since Linux
// 5.11; EINVAL on 5.9 and 5.10). A negative last means the highest there can be.
func MarkRange(first, last int) error {
	if !Enabled(CloseRange) {
		return unix.ENOSYS
	}
	to := uint(math.MaxUint32)
	if last >= 0 {
		to = uint(last)
	}
	return unix.CloseRange(uint(first), to, unix.CLOSE_RANGE_CLOEXEC)
}

// CloseOnExec reports whether execve closes fd. The error is EBADF if fd is not open.
func CloseOnExec(fd int) (bool, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return flags&unix.FD_CLOEXEC != 0, err
}

// SetCloseOnExec has execve close fd. FD_CLOEXEC is the only flag a descriptor has (fcntl(2)).
func SetCloseOnExec(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC)
	return err
}

// A FileType is what a descriptor refers to, by the type bits of its mode.
type FileType uint32

// The types. An anonymous inode (an epoll instance, a pidfd) has none.
const (
	TypeNone      FileType = 0
	TypeFile      FileType = unix.S_IFREG
	TypeDirectory FileType = unix.S_IFDIR
	TypeCharacter FileType = unix.S_IFCHR
	TypeBlock     FileType = unix.S_IFBLK
	TypeFIFO      FileType = unix.S_IFIFO
	TypeSocket    FileType = unix.S_IFSOCK
	TypeSymlink   FileType = unix.S_IFLNK // opened with O_PATH
)

// A File is the file behind a descriptor. Two descriptors with the same Dev and Inode are the same
// file, as long as one of them stays open.
type File struct {
	Dev, Inode uint64
	Type       FileType
	Unlinked   bool // no name is left
}

// FileOf tells the file behind fd as this machine knows it: a server that does not answer, NFS's or one
// of the user's own, is not asked (statx(2), AT_STATX_DONT_SYNC, since Linux 4.11). Where there is no
// statx it is.
func FileOf(fd int) (File, error) {
	st, err := statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_TYPE|unix.STATX_INO|unix.STATX_NLINK)
	if errors.Is(err, unix.ENOSYS) || Denied(err) {
		return fileOf(fd)
	}
	return File{
		Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino,
		Type:     FileType(st.Mode & unix.S_IFMT),
		Unlinked: st.Nlink == 0,
	}, err
}

// statx asks for what the mask says, and no server.
func statx(dir int, path string, flags, mask int) (st unix.Statx_t, err error) {
	for {
		if err = unix.Statx(dir, path, flags|unix.AT_STATX_DONT_SYNC, mask, &st); !errors.Is(err, unix.EINTR) {
			return st, err
		}
	}
}

// fileOf is FileOf by fstat(2).
func fileOf(fd int) (File, error) {
	var st unix.Stat_t
	for {
		err := unix.Fstat(fd, &st)
		if err == unix.EINTR { // a file system of the user's own can interrupt it
			continue
		}
		return File{
			Dev: uint64(st.Dev), Inode: st.Ino, //nolint:unconvert // narrower on some architectures
			Type:     FileType(st.Mode & unix.S_IFMT),
			Unlinked: st.Nlink == 0,
		}, err
	}
}

// A Mode says how a file was opened.
type Mode struct {
	Read, Write bool // neither with O_PATH
	Nonblock    bool
}

// ModeOf tells how the open file description behind fd was opened.
func ModeOf(fd int) (Mode, error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_PATH != 0 {
		return Mode{}, err
	}
	access := flags & unix.O_ACCMODE
	return Mode{
		Read:     access == unix.O_RDONLY || access == unix.O_RDWR,
		Write:    access == unix.O_WRONLY || access == unix.O_RDWR,
		Nonblock: flags&unix.O_NONBLOCK != 0,
	}, nil
}

// PipeSize returns how many bytes the pipe behind fd can hold.
func PipeSize(fd int) (int, error) { return unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0) }

// IsTerminal reports whether fd is a terminal.
func IsTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
