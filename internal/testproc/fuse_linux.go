package testproc

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

func init() {
	helpers["_fuse"] = mountFUSE
}

// HungMount returns a directory on which every access hangs: a FUSE file system that nobody serves.
// Whoever is blocked in it is in state D and can be killed. When the test ends, or nears its deadline,
// or the test binary dies, the file system is aborted, and the blocked go on with an error. The test
// is skipped where nobody may mount one.
func HungMount(t testing.TB) string {
	t.Helper()
	return startFUSE(t, "hang")
}

// HungFile returns the path of an executable file whose reading hangs, while stat, open and access
// work: execve blocks in it, and so does read. Whoever is blocked cannot be killed: it sleeps like any
// other (state S), but from the first SIGKILL on it is in state D, since the kernel waits for the
// answer to a request that was accepted. It ends as [HungMount] does.
func HungFile(t testing.TB) string {
	t.Helper()
	return filepath.Join(startFUSE(t, "serve"), "program")
}

// WaitHung waits until somebody who reads a HungFile cannot be killed any more. Before, whoever sleeps in the same
// function dies, and the request is withdrawn.
func WaitHung(t testing.TB, file string) {
	t.Helper()
	Wait(t, func() bool {
		_, err := os.Stat(acceptedIn(filepath.Dir(file)))
		return err == nil
	})
}

// acceptedIn names the file, beside the mounted directory, that says that a read was accepted.
func acceptedIn(dir string) string { return dir + ".accepted" }

// startFUSE starts the process that mounts the file system on a new directory, and sees to it that
// this ends with the test. It is a process of its own because this one may be blocked in the file
// system with a lock of the scheduler held: os.Open, for one, asks a file for its readiness by a
// system call that the scheduler is not told of, and then neither server nor timer would run here.
func startFUSE(t testing.TB, mode string) string {
	t.Helper()
	if Unprivileged() {
		t.Skip("needs root to mount a FUSE file system")
	}
	dir := t.TempDir()
	cmd := Command("_fuse", mode, dir, time.Until(deadline(t)).String())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := cmd.Wait(); err != nil {
			t.Errorf("the FUSE helper: %v", err)
		}
	})
	if line := ReadLine(t, out); line != "mounted" {
		t.Skip("needs FUSE: " + line)
	}
	return dir
}

// mountFUSE is the helper: it mounts, serves if it has to, and unmounts.
func mountFUSE(args []string) int {
	mode, dir := args[0], args[1]
	limit, err := time.ParseDuration(args[2])
	if err != nil {
		fail("%v", err)
	}
	fd, err := syscall.Open("/dev/fuse", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		fmt.Println("open /dev/fuse:", err)
		return 0
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	err = syscall.Mount("testproc", dir, "fuse", syscall.MS_NOSUID|syscall.MS_NODEV, options)
	if err != nil {
		fmt.Println("mount:", err)
		return 0
	}
	if mode == "serve" {
		go serveFUSE(fd, acceptedIn(dir)) // ends when the file system is aborted, or with this process
	}
	fmt.Println("mounted")
	waitForEnd(limit)
	// A forced unmount aborts the connection, whether or not it can unmount (umount(2), MNT_FORCE).
	syscall.Unmount(dir, syscall.MNT_FORCE)
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil && err != syscall.EINVAL {
		fmt.Fprintf(os.Stderr, "unmounting %s: %v\n", dir, err) // EINVAL: it went with the first
		return 1
	}
	return 0
}

// waitForEnd waits for the end of standard input, of the time, or of the parent. A parent that dies with
// a thread blocked in the file system keeps its end of the pipe.
func waitForEnd(limit time.Duration) {
	closed := make(chan struct{})
	go func() { // ends with this process
		defer close(closed)
		io.Copy(io.Discard, os.Stdin)
	}()
	end := time.After(limit)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	parent := os.Getppid()
	for os.Getppid() == parent && !dying(parent) {
		select {
		case <-closed:
			return
		case <-end:
			return
		case <-look.C:
		}
	}
}

// dying reports whether the first thread of the process is a zombie or has a SIGKILL coming, as each
// thread has from the moment that the process ends in any way.
func dying(pid int) bool {
	state := State(pid)
	return state == 'Z' || state == 'z' || signalMask(pid, "SigPnd")&(1<<(syscall.SIGKILL-1)) != 0
}
