package sys

import (
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Boottime returns the time since boot, suspension included (clock_gettime(2), CLOCK_BOOTTIME). The
// start times of processes are counted on this clock.
func Boottime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}

// TryLock locks one byte of a file, which need not be there, for the open file description of fd
// (fcntl(2), F_OFD_SETLK). It reports false where another has the lock. Other than the locks of
// processes it is not dropped when another descriptor of the file is closed.
func TryLock(fd int, at int64) (bool, error) {
	err := lock(fd, unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1})
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	return err == nil, err
}

// LockHeld reports whether another open file description has the lock.
func LockHeld(fd int, at int64) (bool, error) {
	asked := unix.Flock_t{Type: unix.F_WRLCK, Start: at, Len: 1}
	err := lock(fd, unix.F_OFD_GETLK, &asked)
	return err == nil && asked.Type != unix.F_UNLCK, err
}

func lock(fd, request int, l *unix.Flock_t) error {
	for {
		err := unix.FcntlFlock(uintptr(fd), request, l)
		if !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("fcntl", err)
		}
	}
}

// PunchHole gives back the blocks of a range of a file; its size stays (fallocate(2)).
func PunchHole(fd int, off, n int64) error {
	return os.NewSyscallError("fallocate", unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n))
}

// DataFrom returns where the data of a file begins, from off on (lseek(2), SEEK_DATA). [NoData]
// tells of its error that none does.
func DataFrom(fd int, off int64) (int64, error) {
	at, err := unix.Seek(fd, off, unix.SEEK_DATA)
	return at, os.NewSyscallError("lseek", err)
}

// NoData reports whether err, of DataFrom, says that only a hole follows.
func NoData(err error) bool { return errors.Is(err, unix.ENXIO) }

// WatchWrites returns a descriptor that becomes readable once the file is written to, truncated or
// removed. [ArmWatch] makes it tell of the next time (inotify(7), IN_ONESHOT): an event a write
// would wake us too often.
func WatchWrites(path string) (fd int, err error) {
	fd, err = unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		return -1, os.NewSyscallError("inotify_init1", err)
	}
	if err = ArmWatch(fd, path); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ArmWatch has the descriptor of WatchWrites tell of the next write.
func ArmWatch(fd int, path string) error {
	_, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY|unix.IN_DELETE_SELF|unix.IN_ONESHOT)
	return os.NewSyscallError("inotify_add_watch", err)
}

// UmaskThread gives the calling thread a umask of its own, and so what it starts. The thread shares
// its umask, root and directory with no other from then on: the goroutine must stay locked to it
// until both end.
func UmaskThread(mask int) error {
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	unix.Umask(mask)
	return nil
}

// MakeFIFO makes a FIFO.
func MakeFIFO(path string, mode uint32) error {
	return os.NewSyscallError("mkfifo", unix.Mkfifo(path, mode))
}

// NoReader reports whether err, of opening a FIFO to write without waiting, says that it has no reader.
func NoReader(err error) bool { return errors.Is(err, unix.ENXIO) }

// pidfdInfo is struct pidfd_info of <linux/pidfd.h>, first version.
type pidfdInfo struct {
	mask, cgroupID  uint64
	pid, tgid, ppid uint32
	ruid, rgid      uint32
	euid, egid      uint32
	suid, sgid      uint32
	fsuid, fsgid    uint32
	exitCode        int32
}

const (
	pidfdInfoExit = 1 << 3
	pidfdGetInfo  = 3<<30 | unsafe.Sizeof(pidfdInfo{})<<16 | 0xFF<<8 | 11
)

// ExitOf returns the wait status of the process of a pidfd that another process has reaped (Linux
// 6.15, PIDFD_GET_INFO). It reports false while it is not reaped, and on older kernels.
func ExitOf(fd int) (syscall.WaitStatus, bool) {
	info := pidfdInfo{mask: pidfdInfoExit}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), pidfdGetInfo, uintptr(unsafe.Pointer(&info)))
	if errno != 0 || info.mask&pidfdInfoExit == 0 {
		return 0, false
	}
	return syscall.WaitStatus(info.exitCode), true
}

// WaitStatus is a wait status as wait4(2) has it.
func WaitStatus(n int) syscall.WaitStatus { return syscall.WaitStatus(n) }

// PassCredentials makes each datagram of a socket carry the credentials of its sender (unix(7), SO_PASSCRED).
func PassCredentials(fd int) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1))
}

// SenderOf returns the process that sent a datagram, by the control messages that came with it, 0
// if they do not say, and the descriptors that it passed, which are the caller's to close.
func SenderOf(control []byte) (pid int, fds []int) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return 0, nil
	}
	for _, m := range messages {
		if cred, err := unix.ParseUnixCredentials(&m); err == nil {
			pid = int(cred.Pid)
		} else if passed, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, passed...)
		}
	}
	return pid, fds
}

// TraceDieWithUs has a stopped child killed when the thread that traces it ends (ptrace(2),
// PTRACE_O_EXITKILL), until it is let go.
func TraceDieWithUs(pid int) error {
	return unix.PtraceSetOptions(pid, unix.PTRACE_O_EXITKILL)
}

// Private reports whether a directory belongs to this user and no other user may write to it.
func Private(dir string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false, os.NewSyscallError("stat", err)
	}
	return int(st.Uid) == unix.Geteuid() && st.Mode&0o022 == 0, nil
}

// A User is what SysProcAttr.Credential says.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Keep     bool // the supplementary groups of this process
}

// UserOf returns the user that attr asks for, nil for none. It reports false where attr asks for
// anything else but a session or process group of its own.
func UserOf(attr *syscall.SysProcAttr) (*User, bool) {
	if attr == nil {
		return nil, true
	}
	switch {
	case attr.Chroot != "", attr.Ptrace, attr.Setctty, attr.Noctty, attr.Foreground, attr.Pgid != 0,
		attr.Pdeathsig != 0, attr.Cloneflags != 0, attr.Unshareflags != 0, attr.UseCgroupFD,
		len(attr.AmbientCaps) > 0, len(attr.UidMappings) > 0, len(attr.GidMappings) > 0:
		return nil, false
	case attr.Credential == nil:
		return nil, true
	}
	c := attr.Credential
	return &User{UID: c.Uid, GID: c.Gid, Groups: c.Groups, Keep: c.NoSetGroups}, true
}

// Attr returns the attributes of a command of that user, in a session of its own.
func (u *User) Attr() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Setsid: true}
	if u != nil {
		attr.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: u.Groups, NoSetGroups: u.Keep}
	}
	return attr
}
