package sys

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// IsCgroup2 reports whether dir lies on a cgroup v2 file system. A v1 hierarchy, or the tmpfs that v1
// hierarchies are mounted on, has directories that can be made as well; a clone into one is EBADF.
func IsCgroup2(dir string) (bool, error) {
	var fs unix.Statfs_t
	for {
		err := unix.Statfs(dir, &fs)
		if err != unix.EINTR {
			return err == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC, err
		}
	}
}

// MountOf returns a number that belongs for good to the mount on which dir lies (statx(2),
// STATX_MNT_ID_UNIQUE, since Linux 6.8), and reports false where there is none.
func MountOf(dir string) (id uint64, ok bool) {
	st, err := statx(unix.AT_FDCWD, dir, unix.AT_NO_AUTOMOUNT, unix.STATX_MNT_ID_UNIQUE)
	return st.Mnt_id, err == nil && st.Mask&unix.STATX_MNT_ID_UNIQUE != 0
}

// OpenDir opens a directory, close-on-exec, for what takes its descriptor.
func OpenDir(dir string) (int, error) {
	for {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// OpenRead opens a file for reading, close-on-exec and out of the Go runtime's sight.
func OpenRead(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// ReadStart reads the beginning of a file, whatever was read before.
func ReadStart(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Pread(fd, p, 0)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// Subdirs reports whether the directory has any. A file system that counts them as links says so for
// nothing; of one that does not it is true, and a list tells.
func Subdirs(dir string) (bool, error) {
	var st unix.Stat_t
	for {
		err := unix.Lstat(dir, &st)
		if err != unix.EINTR {
			return err == nil && st.Nlink != 2, err
		}
	}
}

// LockShared and LockExclusive take the lock of flock(2) on what is behind fd, or fail with
// EWOULDBLOCK where another open file description has it. The lock goes with the last descriptor of
// the description, and so with its owner however that ends.
func LockShared(fd int) error { return flock(fd, unix.LOCK_SH|unix.LOCK_NB) }

// LockExclusive is like [LockShared] and excludes that one, too.
func LockExclusive(fd int) error { return flock(fd, unix.LOCK_EX|unix.LOCK_NB) }

func flock(fd, how int) error {
	for {
		if err := unix.Flock(fd, how); err != unix.EINTR {
			return err
		}
	}
}

// Locked reports whether err says that another process has the lock.
func Locked(err error) bool { return errors.Is(err, unix.EWOULDBLOCK) }

// Rmdir removes an empty directory. A cgroup is empty when it has neither processes nor children.
func Rmdir(dir string) error {
	for {
		if err := unix.Rmdir(dir); err != unix.EINTR {
			return err
		}
	}
}

// IntoCgroup has the child of attr begin its life in the cgroup behind the descriptor of its
// directory: clone3(2), CLONE_INTO_CGROUP, since 5.7.
func IntoCgroup(attr *syscall.SysProcAttr, fd int) { attr.UseCgroupFD, attr.CgroupFD = true, fd }

// NamesCgroup reports whether attr names a cgroup.
func NamesCgroup(attr *syscall.SysProcAttr) bool { return attr != nil && attr.UseCgroupFD }

// Busy reports whether err says that something is in use.
func Busy(err error) bool { return errors.Is(err, unix.EBUSY) }

// NoDevice reports whether err says that what is behind an open file was removed.
func NoDevice(err error) bool { return errors.Is(err, unix.ENODEV) }

// NotSupported reports whether err says that a file does not support what was tried on it.
func NotSupported(err error) bool { return errors.Is(err, unix.EOPNOTSUPP) }
