package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// blocked runs f on a thread of its own and waits until that thread sleeps in the kernel; the result
// of f comes on the channel.
func blocked(t *testing.T, f func() error) <-chan error {
	t.Helper()
	tid := make(chan int, 1)
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		tid <- syscall.Gettid()
		done <- f()
	}()
	thread := <-tid
	waitFUSE(t, thread)
	return done
}

// waitFUSE waits until the process or thread sleeps in a function of FUSE.
func waitFUSE(t *testing.T, id int) {
	t.Helper()
	var wchan []byte
	in := func() bool {
		wchan, _ = os.ReadFile(fmt.Sprintf("/proc/%d/wchan", id))
		return strings.Contains(string(wchan), "fuse") || string(wchan) == "request_wait_answer"
	}
	if !poll(t, in) {
		t.Fatalf("%d sleeps in %q", id, wchan)
	}
}

func TestHungMount(t *testing.T) {
	NoLeaks(t)
	var done [2]<-chan error
	t.Run("mounted", func(t *testing.T) {
		dir := HungMount(t)
		done[0] = blocked(t, func() error {
			_, err := os.Stat(dir)
			return err
		})
		done[1] = blocked(t, func() error {
			_, err := os.Open(filepath.Join(dir, "file"))
			return err
		})
		for _, c := range done {
			select {
			case err := <-c:
				t.Fatalf("returned %v", err)
			default:
			}
		}
	})
	if done[1] == nil {
		t.Skip("no FUSE here")
	}
	for _, c := range done {
		select {
		case err := <-c:
			assert.Error(t, err)
		case <-Deadline(t).Done():
			t.Fatal("not released")
		}
	}
}

func TestHungMountVictimCanBeKilled(t *testing.T) {
	NoLeaks(t)
	dir := HungMount(t)
	cmd := exec.Command(HasProgram(t, "ls"), dir)
	canary := NewCanary(t)
	cmd.ExtraFiles = []*os.File{canary.File()}
	require.NoError(t, cmd.Start())
	canary.CloseParent()
	waitFUSE(t, cmd.Process.Pid)
	require.NoError(t, cmd.Process.Kill())
	canary.WaitGone(t)
	assert.Equal(t, syscall.SIGKILL, waitStatus(t, cmd).Signal())
}

func TestHungFile(t *testing.T) {
	NoLeaks(t)
	var cmd *exec.Cmd
	t.Run("mounted", func(t *testing.T) {
		path := HungFile(t)
		fi, err := os.Stat(path)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o755), fi.Mode())
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		cmd = exec.Command(HasProgram(t, "cat"))
		cmd.Stdin = f
		require.NoError(t, cmd.Start())
		WaitHung(t, path)
		require.NoError(t, cmd.Process.Kill())
		WaitState(t, cmd.Process.Pid, "D")
	})
	if cmd == nil {
		t.Skip("no FUSE here")
	}
	assert.Equal(t, syscall.SIGKILL, waitStatus(t, cmd).Signal(), "released, it dies")
}

func TestHungFileHangsExec(t *testing.T) {
	NoLeaks(t)
	var done <-chan error
	t.Run("mounted", func(t *testing.T) {
		path := HungFile(t)
		// Not from this process: its fork would hold a scheduler's thread until the end.
		cmd := exec.Command(HasProgram(t, "sh"), "-c", `echo ready; exec "$0"`, path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		assert.Equal(t, "ready", ReadLine(t, out))
		waitFUSE(t, cmd.Process.Pid)
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }() // ends when the file system is aborted
		done = ended
	})
	if done == nil {
		t.Skip("no FUSE here")
	}
	select {
	case err := <-done:
		assert.Error(t, err)
	case <-Deadline(t).Done():
		t.Fatal("not released")
	}
}

// A process that ends with a thread blocked in the file system can only end if that is aborted by
// somebody else.
func TestHungFileReleasesDyingTestBinary(t *testing.T) {
	if Unprivileged() {
		t.Skip("needs root to mount a FUSE file system")
	}
	out, code := rerun(t, "blocked at exit", "-test.run=^TestLeaky$")
	assert.Equal(t, 7, code, out)
}

func TestHungFileReleasesBeforeDeadline(t *testing.T) {
	if Unprivileged() {
		t.Skip("needs root to mount a FUSE file system")
	}
	for limit := 2 * time.Second; ; limit *= 2 {
		out, code := rerun(t, "blocked for ever", "-test.run=^TestLeaky$", "-test.timeout="+limit.String())
		if code == 0 {
			return
		}
		require.Less(t, limit, 30*time.Second, "and not only on a busy machine: %s", out)
	}
}

// readHungFile returns the channel that the result of a read that hangs comes on.
func readHungFile(t *testing.T) <-chan error {
	f, err := os.Open(HungFile(t))
	require.NoError(t, err)
	return blocked(t, func() error {
		defer f.Close()
		_, err := f.Read(make([]byte, 1))
		return err
	})
}

func init() {
	leakers["blocked at exit"] = func(t *testing.T) {
		readHungFile(t)
		os.Exit(7)
	}
	leakers["blocked for ever"] = func(t *testing.T) {
		assert.Error(t, <-readHungFile(t))
	}
}
