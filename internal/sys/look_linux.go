package sys

import (
	"strconv"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Cwd stands for the working directory where a call takes the descriptor of a directory.
const Cwd = unix.AT_FDCWD

// A Version is a file as it was at one time. What was read of a file holds for the same Version.
type Version struct {
	Dev, Inode, Size uint64
	Changed          int64 // ctime, in nanoseconds
}

// A Place is what a path leads to. It is held by a descriptor that was opened with O_PATH, which asks
// no driver for anything, needs no permission but to search directories, and drops no lock of this
// process when it is closed.
type Place struct {
	FD      int
	Type    FileType
	Version Version
}

// Close lets go of the place.
func (p *Place) Close() { Close(p.FD) }

// localDev is the device of the root directory if that is a file system of the kernel's own, 0 if
// it is not or was not looked at.
var localDev atomic.Uint64

// localTypes are file systems whose files need neither a server nor another file system. Of
// overlayfs it is not known what lies below.
var localTypes = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:     true, // ext2 and ext3 as well
	unix.XFS_SUPER_MAGIC:      true,
	unix.BTRFS_SUPER_MAGIC:    true,
	unix.F2FS_SUPER_MAGIC:     true,
	unix.EROFS_SUPER_MAGIC_V1: true,
	unix.SQUASHFS_MAGIC:       true,
}

// LearnRoot finds out once what FindCached has to know. It takes as long as the file system of the
// root directory takes to answer.
func LearnRoot() {
	if localDev.Load() != 0 {
		return
	}
	root, err := Find(Cwd, "/")
	if err != nil {
		return
	}
	defer root.Close()
	var fs unix.Statfs_t
	//nolint:unconvert // narrower on some architectures
	if unix.Fstatfs(root.FD, &fs) == nil && localTypes[int64(fs.Type)] {
		localDev.Store(root.Version.Dev)
	}
}

// Find looks up a path from dir on. The file system has to answer: a server is asked what it knows of
// the file (statx(2), AT_STATX_FORCE_SYNC).
func Find(dir int, path string) (Place, error) {
	for {
		fd, err := unix.Openat(dir, path, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err == nil {
			return place(fd, unix.AT_STATX_FORCE_SYNC)
		}
		if err != unix.EINTR {
			return Place{FD: -1}, err
		}
	}
}

// FindCached is Find for a path that can be looked up without waiting: in the kernel's caches and
// on one mount (openat2(2), RESOLVE_CACHED and RESOLVE_NO_XDEV, since Linux 5.12), of the file system
// that LearnRoot found to be the kernel's own, whatever the root directory of this thread is. An error
// says nothing but that this is not so.
func FindCached(dir int, path string) (Place, error) {
	none := Place{FD: -1}
	local := localDev.Load()
	// By hand, as unix.Openat2 copies each path to the heap, and every start opens two.
	var name [512]byte
	if !Enabled(Cached) || local == 0 || len(path) >= len(name) || strings.IndexByte(path, 0) >= 0 {
		return none, unix.EAGAIN
	}
	copy(name[:], path)
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: resolveCached | unix.RESOLVE_NO_XDEV,
	}
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(dir),
		uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0)
	if errno != 0 {
		return none, errno
	}
	p, err := place(int(fd), unix.AT_STATX_DONT_SYNC)
	if err == nil && p.Version.Dev != local {
		p.Close()
		return none, unix.EXDEV
	}
	return p, err
}

// resolveCached is RESOLVE_CACHED of openat2(2).
const resolveCached = 0x20

// place tells what fd is, and closes it where it cannot.
func place(fd, sync int) (Place, error) {
	var st unix.Statx_t
	var empty byte
	errno := unix.EINTR
	for errno == unix.EINTR { // by hand, as above
		_, _, errno = unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(&empty)),
			uintptr(unix.AT_EMPTY_PATH|sync), unix.STATX_TYPE|unix.STATX_INO|unix.STATX_SIZE|unix.STATX_CTIME,
			uintptr(unsafe.Pointer(&st)), 0)
	}
	if errno != 0 {
		Close(fd)
		return Place{FD: -1}, errno
	}
	return Place{FD: fd, Type: FileType(st.Mode & unix.S_IFMT), Version: Version{
		Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Inode: st.Ino, Size: st.Size,
		Changed: st.Ctime.Sec*1e9 + int64(st.Ctime.Nsec),
	}}, nil
}

// Searchable returns why this thread cannot make the place its working directory.
func (p *Place) Searchable() error {
	if p.Type != TypeDirectory {
		return unix.ENOTDIR
	}
	return unix.Faccessat(p.FD, "", unix.X_OK, unix.AT_EACCESS|unix.AT_EMPTY_PATH)
}

// OpenRegular opens the place for reading if it is a regular file: to open anything else can do
// something, such as wait for a writer, rewind a tape or start a watchdog. It needs /proc. The
// descriptor is for [CloseUnlocked] to close.
func (p *Place) OpenRegular() (int, error) {
	if p.Type != TypeFile {
		return -1, unix.EINVAL
	}
	return reopen(p.FD, unix.O_RDONLY)
}

// reopen opens anew what fd, of ours, is: by the link in /proc, which leads to that very file.
func reopen(fd, mode int) (int, error) {
	dir, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer Close(dir)
	var fs unix.Statfs_t
	if err := unix.Fstatfs(dir, &fs); err != nil {
		return -1, err
	}
	if fs.Type != unix.PROC_SUPER_MAGIC {
		return -1, unix.ENOSYS
	}
	for {
		n, err := unix.Openat(dir, strconv.Itoa(fd), mode|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Pread reads from a file from offset on.
func Pread(fd int, p []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(fd, p, offset)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}

// CloseUnlocked closes a descriptor of a regular file unless a process has a POSIX lock on the file. If it is
// this process, the close would drop all its locks on the file (fcntl(2)), whichever descriptor took them. It
// reports whether it closed fd. A lock that this process takes between the question and the close is lost.
//
// The question is asked by the rules of open file description locks, since Linux 3.15: F_GETLK says
// nothing of locks of our own.
//
// To close it in a thread with a table of descriptors of its own (unshare(2), CLONE_FILES) would drop
// nothing, as such locks belong to the table. But any thread of the Go runtime may have to wake its
// poller, and the program is ended where the descriptor for that is missing.
func CloseUnlocked(fd int) bool {
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	for {
		err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lock)
		if err == unix.EINTR {
			continue
		}
		if err != nil || lock.Type != unix.F_UNLCK {
			return false
		}
		Close(fd)
		return true
	}
}

// ThreadID returns the number of the calling thread.
func ThreadID() int { return unix.Gettid() }

// SeesAlike reports whether another thread of this process has the same working directory, root
// directory and mounts as the calling one. All threads have, but those that a goroutine is locked to
// which changed that.
func SeesAlike(tid int) bool {
	const kcmpFS = 3
	same, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(tid), uintptr(unix.Gettid()), kcmpFS, 0, 0, 0)
	if errno == 0 && same == 0 {
		return true // and so are the mounts: a thread that shares the directories cannot change them
	}
	// A filter may refuse it (docker's does), and other directories may be the same ones.
	for _, name := range []string{"/ns/mnt", "/root", "/cwd"} {
		theirs, err1 := readlink("/proc/self/task/" + strconv.Itoa(tid) + name)
		ours, err2 := readlink("/proc/thread-self" + name)
		if theirs != ours || err1 != err2 { //nolint:errorlint // two numbers
			return false
		}
	}
	return true
}

func readlink(path string) (string, error) {
	var p [unix.PathMax]byte
	n, err := unix.Readlink(path, p[:])
	return string(p[:max(n, 0)]), err
}
