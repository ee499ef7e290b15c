package sys

import (
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rootIs is what is known of the mount that is this process's root directory.
var rootIs atomic.Int32

const (
	rootUnknown int32 = iota
	rootLocal         // a file system of the kernel's own: nobody has to answer an open
	rootOther         // a server may have to, or it is not known what lies below, as with overlayfs
)

// localTypes are file systems whose open needs neither a server nor another file system.
var localTypes = map[int64]bool{
	unix.EXT4_SUPER_MAGIC:     true, // ext2 and ext3 as well
	unix.XFS_SUPER_MAGIC:      true,
	unix.BTRFS_SUPER_MAGIC:    true,
	unix.F2FS_SUPER_MAGIC:     true,
	unix.EROFS_SUPER_MAGIC_V1: true,
	unix.SQUASHFS_MAGIC:       true,
}

// LearnRoot finds out once what PeekCached has to know. It takes as long as the file system of the
// root directory takes to answer statfs(2).
func LearnRoot() {
	if rootIs.Load() != rootUnknown {
		return
	}
	var fs unix.Statfs_t
	if unix.Statfs("/", &fs) != nil {
		return
	}
	if localTypes[int64(fs.Type)] { //nolint:unconvert // narrower on some architectures
		rootIs.Store(rootLocal)
	} else {
		rootIs.Store(rootOther)
	}
}

// PeekCached is Peek for a path that can be looked up, opened and read without waiting: all of it on
// the mount of the root directory, which is one of the kernel's own file systems, and in the
// kernel's caches (openat2(2), RESOLVE_NO_XDEV and RESOLVE_CACHED, since Linux 5.12; preadv2(2),
// RWF_NOWAIT). An error says nothing but that this is not so. It assumes that the root directory
// stays what it was at the first LearnRoot, and that whoever is asked for permission by
// fanotify(7) answers.
func PeekCached(path string, p []byte, offset int64) (int, error) {
	fd, err := openCached(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return 0, err
	}
	defer Close(fd)
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	// The offset is two words, the lower one first. Where that one holds all, the other is ignored.
	n, _, errno := unix.Syscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1,
		uintptr(offset), uintptr(offset>>32), unix.RWF_NOWAIT)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// SearchableCached is Searchable in the same way, for what is known to be a directory then.
func SearchableCached(dir string) error {
	fd, err := openCached(dir, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer Close(fd)
	return unix.Faccessat(fd, "", unix.X_OK, unix.AT_EACCESS|unix.AT_EMPTY_PATH)
}

func openCached(path string, flags int) (int, error) {
	// A relative path begins at the working directory, wherever that is.
	if !Enabled(Cached) || rootIs.Load() != rootLocal || path == "" || path[0] != '/' {
		return -1, unix.EAGAIN
	}
	// By hand, as unix.Openat2 copies each path to the heap, and every start opens two.
	var name [512]byte
	if len(path) >= len(name) || strings.IndexByte(path, 0) >= 0 {
		return -1, unix.EAGAIN
	}
	copy(name[:], path)
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: resolveCached | unix.RESOLVE_NO_XDEV,
	}
	cwd := unix.AT_FDCWD
	fd, _, errno := unix.Syscall6(unix.SYS_OPENAT2, uintptr(cwd),
		uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&how)), unix.SizeofOpenHow, 0, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// resolveCached is RESOLVE_CACHED of openat2(2).
const resolveCached = 0x20
