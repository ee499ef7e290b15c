package testproc

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// NeedsMissingPages skips the test where [MissingPage] has none, with the reason.
func NeedsMissingPages(t testing.TB) {
	t.Helper()
	uffd, page, err := MissingPage()
	if err != nil {
		t.Skip("no page that never comes: ", err)
	}
	if err := unix.Munmap(page); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(uffd); err != nil {
		t.Fatal(err)
	}
}

// MissingPage returns a page of memory that never comes: who touches it, the kernel on its behalf included,
// sleeps until it is killed, or until userfaultfd(2) fills the page.
func MissingPage() (uffd int, page []byte, err error) {
	const (
		uffdAPI           = 0xaa
		ioctlAPI          = 0xc018aa3f
		ioctlRegister     = 0xc020aa00
		registerIfMissing = 1
	)
	fd, _, errno := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, nil, errno
	}
	api := [3]uint64{uffdAPI}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, ioctlAPI, uintptr(unsafe.Pointer(&api))); errno != 0 {
		return int(fd), nil, errno
	}
	page, err = unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return int(fd), nil, err
	}
	register := [4]uint64{uint64(uintptr(unsafe.Pointer(&page[0]))), uint64(len(page)), registerIfMissing}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, ioctlRegister, uintptr(unsafe.Pointer(&register))); errno != 0 {
		return int(fd), nil, errno
	}
	return int(fd), page, nil
}

// HoldByReading has a thread read from a pipe that has something into a page that does not come before letGo is called,
// and returns once it does. Until then the pipe is held. The caller closes fd after letGo.
func HoldByReading(t testing.TB, fd int) (letGo func()) {
	t.Helper()
	NeedsMissingPages(t)
	uffd, page, err := MissingPage()
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = unix.Read(fd, page)
	}()
	letGo = sync.OnceFunc(func() {
		_ = unix.Close(uffd)
		<-over
		_ = unix.Munmap(page)
	})
	t.Cleanup(letGo)
	call := fmt.Sprintf("%d %#x %#x ", unix.SYS_READ, fd, uintptr(unsafe.Pointer(&page[0])))
	Wait(t, func() bool {
		tasks, _ := filepath.Glob("/proc/self/task/*/syscall")
		return slices.ContainsFunc(tasks, func(task string) bool {
			text, _ := os.ReadFile(task)
			return strings.HasPrefix(string(text), call)
		})
	})
	return letGo
}

// SleepsIn reports whether a thread of the process sleeps in a system call, and not because a pipe is empty or full.
func SleepsIn(pid, call int) bool {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task + "/syscall")
		wchan, _ := os.ReadFile(task + "/wchan")
		if strings.HasPrefix(string(text), fmt.Sprint(call)+" ") && !strings.Contains(string(wchan), "pipe") {
			return true
		}
	}
	return false
}
