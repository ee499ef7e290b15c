package testproc

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// An fd is an open descriptor of this process.
type fd struct {
	n      int
	target string // the link in /proc/self/fd: a path, pipe:[inode], anon_inode:[eventpoll] …
}

// openFDs lists the descriptors of this process, sorted, without the one it needs for that. It uses
// no os.File, so that it opens nothing else on the way.
func openFDs() ([]fd, error) {
	dir, err := syscall.Open("/proc/self/fd", syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("open /proc/self/fd", err)
	}
	defer syscall.Close(dir)
	var names []string
	buf := make([]byte, 8192)
	for {
		n, err := syscall.ReadDirent(dir, buf)
		if err != nil {
			return nil, os.NewSyscallError("getdents /proc/self/fd", err)
		}
		if n <= 0 {
			break
		}
		_, _, names = syscall.ParseDirent(buf[:n], -1, names)
	}
	var list []fd
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil || n == dir {
			continue
		}
		target, err := os.Readlink("/proc/self/fd/" + name)
		if err != nil {
			continue // closed meanwhile
		}
		list = append(list, fd{n, strings.TrimSuffix(target, " (deleted)")})
	}
	slices.SortFunc(list, func(a, b fd) int { return cmp.Compare(a.n, b.n) })
	return list, nil
}
