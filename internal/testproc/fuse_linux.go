package testproc

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// HungMount returns a directory on which every access hangs: a FUSE file system that nobody serves.
// Whoever is blocked in it can be killed. When the test ends, or nears its deadline, the file system
// is aborted, and they go on with an error. The test is skipped where nobody may mount one.
func HungMount(t testing.TB) string {
	t.Helper()
	return mountFUSE(t).dir
}

// A fuseMount is a mounted FUSE file system and the descriptor by which it would be served.
type fuseMount struct {
	dir   string
	fd    int
	abort func() // releases all that are blocked; may be called more than once
}

// mountFUSE mounts on a new directory and sees to it that this ends with the test.
func mountFUSE(t testing.TB) *fuseMount {
	t.Helper()
	if Unprivileged() {
		t.Skip("needs root to mount a FUSE file system")
	}
	// The descriptor is not for the runtime's poller, which would add it before there is a mount.
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs FUSE: open /dev/fuse: %v", err)
	}
	dir := t.TempDir()
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	err = syscall.Mount("testproc", dir, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV, options)
	if err != nil {
		syscall.Close(fd)
		t.Skipf("needs FUSE: %v", os.NewSyscallError("mount", err))
	}
	m := &fuseMount{dir: dir, fd: fd}
	// To close the descriptor would not do: a child that is blocked on the way to exec has a copy. A
	// forced unmount aborts the connection, whether or not it can unmount (umount(2), MNT_FORCE).
	m.abort = sync.OnceFunc(func() { syscall.Unmount(dir, syscall.MNT_FORCE) })
	// A test that runs into its deadline has no cleanup, and its process could not end.
	early := time.AfterFunc(time.Until(deadline(t)), m.abort)
	t.Cleanup(func() {
		early.Stop()
		m.abort()
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil && err != syscall.EINVAL {
			t.Errorf("unmounting %s: %v", dir, err) // EINVAL: it went with the first
		}
		if err := syscall.Close(fd); err != nil {
			t.Errorf("closing /dev/fuse: %v", err)
		}
	})
	return m
}
