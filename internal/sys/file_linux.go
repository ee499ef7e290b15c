package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here take their path as bytes that end with a NUL and leave the caller's buffers on its
// stack, where package unix and package syscall copy the path to the heap, or hand the buffer to the
// race detector. Reading /proc of a large tree is made of little else.

// OpenBytes opens path, from the directory dir on if it is relative, for reading, close-on-exec.
func OpenBytes(dir int, path []byte, flags int) (int, error) {
	for {
		fd, _, errno := unix.Syscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(&path[0])),
			uintptr(flags|unix.O_RDONLY|unix.O_CLOEXEC), 0, 0, 0)
		if errno == 0 {
			return int(fd), nil
		}
		if errno != unix.EINTR {
			return -1, errno
		}
	}
}

// ReadBytes reads from fd into p, which is not empty.
func ReadBytes(fd int, p []byte) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}

// ReadlinkBytes reads the link name in the directory fd into p, which is not empty.
func ReadlinkBytes(fd int, name, p []byte) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_READLINKAT, uintptr(fd), uintptr(unsafe.Pointer(&name[0])),
			uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0)
		if errno == 0 {
			return int(n), nil
		}
		if errno != unix.EINTR {
			return 0, errno
		}
	}
}
