package incidents

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() { testproc.Roles["hold-stream"] = holdStream }

// holdStream reads standard input into, or writes an output from, a page that never comes, and so holds the
// pipe's mutex. The page is of userfaultfd(2), whose faults a kill ends, or of the file that is named, on a file
// system that does not answer, where nothing does. It says on descriptor 3 that it is about to.
func holdStream(args []string) int {
	fd := map[string]int{"stdin": 0, "stdout": 1, "stderr": 2}[args[0]]
	var page []byte
	var err error
	if len(args) > 1 {
		page, err = missingPageOf(args[1])
	} else {
		var uffd int
		if uffd, page, err = testproc.MissingPage(); err == nil {
			go letGo(uffd, page)
		}
	}
	if err != nil {
		fmt.Fprintln(os.NewFile(3, "3"), "skip:", err)
		return 1
	}
	fmt.Fprintln(os.NewFile(3, "3"), "ready", os.Getpid())
	// The first call makes the pipe ready, and the next holds it by the time that the other side has come.
	ready := make([]byte, os.Getpagesize())
	if fd == 0 {
		_, _ = unix.Read(fd, ready)
		_, err = unix.Read(fd, page)
	} else {
		_, _ = unix.Write(fd, ready)
		_, err = unix.Writev(fd, [][]byte{ready, page})
	}
	if err == nil && fd != 0 { // more than the pipe holds: the reader has to read again
		_, err = os.NewFile(uintptr(fd), "stream").Write(make([]byte, 1<<20))
	}
	fmt.Fprintln(os.Stderr, "it came:", err)
	return 1
}

// releaseVariable names a FIFO. When something is written to it the page comes after all.
const releaseVariable = "SAFEEXEC_TEST_RELEASE"

func letGo(uffd int, page []byte) {
	const ioctlZeropage = 0xc020aa04
	path, ok := os.LookupEnv(releaseVariable)
	if !ok {
		return
	}
	if _, err := os.ReadFile(path); err != nil {
		return
	}
	zero := [4]uint64{uint64(uintptr(unsafe.Pointer(&page[0]))), uint64(len(page))}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(uffd), ioctlZeropage, uintptr(unsafe.Pointer(&zero)))
}

func missingPageOf(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return unix.Mmap(fd, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
}

// countingWriter is a Writer of which nothing is known.
type countingWriter struct{ n int }

func (w *countingWriter) Write(p []byte) (int, error) { w.n += len(p); return len(p), nil }

// unboundedReader is a Reader of which nothing is known, and that has always something.
type unboundedReader struct{}

func (unboundedReader) Read(p []byte) (int, error) { return len(p), nil }

// A heldMode is a way in which a stream passes through this process.
type heldMode struct {
	name, stream string
	set          func(cmd *exec.Cmd) error
}

var heldModes = []heldMode{
	{"captured", "stdout", func(*exec.Cmd) error { return nil }},
	{"stderr", "stderr", func(*exec.Cmd) error { return nil }},
	{"Writer", "stdout", func(cmd *exec.Cmd) error { cmd.Stdout = new(countingWriter); return nil }},
	{"Buffer", "stdout", func(cmd *exec.Cmd) error { cmd.Stdout = new(bytes.Buffer); return nil }},
	{"merged", "stderr", func(cmd *exec.Cmd) error { w := new(countingWriter); cmd.Stdout, cmd.Stderr = w, w; return nil }},
	{"stdin", "stdin", func(cmd *exec.Cmd) error { cmd.Stdin = unboundedReader{}; return nil }},
	{"known stdin", "stdin", func(cmd *exec.Cmd) error { cmd.Stdin = strings.NewReader(strings.Repeat("x", 1<<20)); return nil }},
	{"StdoutPipe", "stdout", func(cmd *exec.Cmd) error {
		out, err := cmd.StdoutPipe()
		go func() { _, _ = io.Copy(io.Discard, out) }()
		return err
	}},
}

// startHolding starts a command that holds the pipe of a stream, and returns when it does.
func startHolding(t *testing.T, set func(*exec.Cmd) error, args []string, opts ...safeexec.Option) *safeexec.Process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), testproc.RoleVariable+"=hold-stream", "GORACE=atexit_sleep_ms=0")
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w}
	require.NoError(t, set(cmd))
	p, err := safeexec.Start(context.Background(), cmd, append(opts, safeexec.WithTimeout(testrun.Unbounded))...)
	w.Close()
	require.NoError(t, err)
	var word string
	var pid int
	_, err = fmt.Fscan(r, &word, &pid)
	if word == "skip:" {
		rest, _ := io.ReadAll(r)
		_, _ = p.Stop()
		t.Skip("no page that never comes: ", string(rest))
	}
	require.NoError(t, err)
	awaitHeld(t, pid)
	return p
}

// awaitHeld waits until a thread of a process sleeps in a read or a write, on memory and not on the pipe itself.
func awaitHeld(t *testing.T, pid int) {
	t.Helper()
	testproc.Wait(t, func() bool {
		return testproc.SleepsIn(pid, syscall.SYS_WRITEV) || testproc.SleepsIn(pid, syscall.SYS_READ)
	})
}

// TestIncidentHeldPipe: a command held its pipe's mutex in the kernel, and every call on the pipe but poll(2) slept
// uninterruptibly until the command was dead: Run hung, and nothing was left to kill the command.
func TestIncidentHeldPipe(t *testing.T) {
	for _, m := range heldModes {
		t.Run(m.name, func(t *testing.T) {
			p := startHolding(t, m.set, []string{m.stream}, safeexec.WithGracePeriod(100*time.Millisecond))
			other, err := safeexec.Run(testproc.Deadline(t), exec.Command("echo", "untouched"))
			require.NoError(t, err)
			assert.Equal(t, "untouched", other.Stdout.String())

			res, err := p.Stop()
			require.ErrorIs(t, err, safeexec.ErrStopped)
			assert.True(t, testproc.Dead(p.PID()))
			assert.Empty(t, res.Survivors)
			assert.NotContains(t, res.Abandoned, safeexec.AbandonedPipe, "it is dead, and holds nothing")
		})
	}
}

// TestHeldPipeAtTheTimeout is the same for the deadline.
func TestHeldPipeAtTheTimeout(t *testing.T) {
	testproc.NoLeaks(t)
	p := startHolding(t, func(*exec.Cmd) error { return nil }, []string{"stdout"}, safeexec.WithGracePeriod(10*time.Millisecond))
	require.NoError(t, p.SetTimeout(time.Millisecond))
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.Empty(t, res.Survivors)
	assert.LessOrEqual(t, len(res.Stdout.Bytes()), 2*os.Getpagesize())
}

// TestHeldPipeOfASurvivor runs a command that cannot be killed and holds its pipe. The run returns all the same, and
// says what it left; that ends when the file system goes.
func TestHeldPipeOfASurvivor(t *testing.T) {
	for _, m := range heldModes {
		if m.name == "StdoutPipe" {
			continue // the caller reads, and waits himself
		}
		t.Run(m.name, func(t *testing.T) {
			var p *safeexec.Process
			t.Cleanup(func() { // after the file system is gone
				if p != nil { // else it was skipped
					testproc.Wait(t, func() bool { return testproc.Dead(p.PID()) })
				}
			})
			file := testproc.HungFile(t)
			p = startHolding(t, m.set, []string{m.stream, file},
				safeexec.WithGracePeriod(0), safeexec.WithKillTimeout(100*time.Millisecond), safeexec.WithDrainTimeout(100*time.Millisecond))
			testproc.WaitHung(t, file)
			res, err := p.Stop()
			require.ErrorIs(t, err, safeexec.ErrStopped)
			assert.ErrorIs(t, err, safeexec.ErrSurvivors)
			if m.stream == "stdin" { // a write gives the pipe up when the signal comes
				assert.Contains(t, res.Abandoned, safeexec.AbandonedPipe)
			}
		})
	}
}

// leftStdout returns the left pipe of standard output.
func leftStdout(t *testing.T, res safeexec.Result) safeexec.LeftPipe {
	t.Helper()
	i := slices.IndexFunc(res.LeftPipes, func(p safeexec.LeftPipe) bool { return p.FD == 1 })
	require.GreaterOrEqual(t, i, 0, "%+v", res.LeftPipes)
	return res.LeftPipes[i]
}

// TestHeldPipeIsLeft has a background process hold its pipe. It is waited for until the drain timeout, and the pipes of
// others are not.
//
// A process that lets go of its pipe is read again: it neither blocks nor dies of SIGPIPE.
func TestHeldPipeIsLeft(t *testing.T) {
	exe, err := os.Executable()
	require.NoError(t, err)
	testproc.NeedsMissingPages(t)
	fifo := filepath.Join(t.TempDir(), "release")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	leave := func(script string, args ...string) (safeexec.Result, error) {
		cmd := exec.Command("sh", append([]string{"-c", script}, args...)...)
		cmd.Env = append(os.Environ(), testproc.RoleVariable+"=hold-stream", releaseVariable+"="+fifo, "GORACE=atexit_sleep_ms=0")
		return safeexec.Run(testproc.Deadline(t), cmd, safeexec.WithBackground(safeexec.BackgroundLeave), safeexec.WithDrainTimeout(testrun.Soon))
	}
	res, err := leave(`"$0" stdout 3>/dev/null & `+untilHeld, exe)
	require.NoError(t, err, "%s", res.Stderr.String())
	require.Len(t, res.Left, 1)
	require.Len(t, res.LeftPipes, 2)

	chatty, err := leave(`yes & echo $!`)
	require.NoError(t, err)
	require.NotEmpty(t, chatty.LeftPipes)
	written := leftStdout(t, chatty)
	before := written.Discarded()
	testproc.Wait(t, func() bool { return written.Discarded() > before+1<<20 })

	for _, p := range chatty.LeftPipes { // what wakes the reader of all
		p.Release()
	}
	held := leftStdout(t, res)
	require.NoError(t, os.WriteFile(fifo, []byte("x"), 0)) // blocks until it is read
	testproc.Wait(t, func() bool { return held.Discarded() >= 1<<20 })

	for _, p := range res.LeftPipes {
		p.Release()
	}
	for _, left := range append(chatty.Left, res.Left...) {
		_, err := safeexec.KillTree(testproc.Deadline(t), left, safeexec.WithGracePeriod(0))
		if err != nil {
			assert.ErrorIs(t, err, safeexec.ErrNoProcess)
		}
	}
}
