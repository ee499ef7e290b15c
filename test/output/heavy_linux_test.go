package output_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// pipeSize returns how much the pipe holds that is descriptor fd of a process; 0 once it is gone.
func pipeSize(pid, fd int) int {
	const getPipeSize = 1032 // F_GETPIPE_SZ, fcntl(2)
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd))
	if err != nil {
		return 0
	}
	defer f.Close()
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), getPipeSize, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// defaultPipe is what a pipe of the default size holds.
const defaultPipe = 64 << 10

// takeOfFull reads a page of what a full pipe holds, so that its writer finds it full once more.
func takeOfFull(t *testing.T, pid, fd int) {
	t.Helper()
	pipe, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/fd/"+strconv.Itoa(fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pipe)
	unread, err := unix.IoctlGetInt(pipe, unix.TIOCINQ)
	require.NoError(t, err)
	if unread == defaultPipe {
		_, err = unix.Read(pipe, make([]byte, os.Getpagesize()))
		require.NoError(t, err)
	}
}

// The pipes of a flood are enlarged, and no others.
func TestFloodedPipesAreEnlarged(t *testing.T) {
	ctx := testproc.Deadline(t)
	for name, flood := range map[string]func(cmd *exec.Cmd) (fd int){
		"captured": func(*exec.Cmd) int { return 1 },
		"streamed": func(cmd *exec.Cmd) int { cmd.Stdout = testproc.PlainWriter{Writer: io.Discard}; return 1 },
		"input": func(cmd *exec.Cmd) int {
			own := testproc.Command("hang")
			cmd.Path, cmd.Args, cmd.Env = own.Path, own.Args, own.Env
			cmd.Stdin = testproc.PlainReader{Reader: testproc.Endless{}}
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := testproc.Command("spew-forever")
			fd := flood(cmd)
			p, err := safeexec.Start(ctx, cmd, safeexec.WithTimeout(testrun.Unbounded))
			require.NoError(t, err)
			testproc.Wait(t, func() bool {
				if name == "input" { // a command that reads as fast as it comes has its pipe not enlarged
					takeOfFull(t, p.PID(), fd)
				}
				return pipeSize(p.PID(), fd) > defaultPipe
			})
			assert.LessOrEqual(t, pipeSize(p.PID(), 2), defaultPipe)
			_, err = p.Stop()
			assert.ErrorIs(t, err, safeexec.ErrStopped)
		})
	}
}

// What is kept of a flood is its beginning and its end, to the byte, and all of it is counted.
func TestFloodIsCounted(t *testing.T) {
	t.Parallel()
	const total = 5_000_001
	for _, limit := range []int64{1, 1000, 300_000, 1 << 20, total - 1, total} {
		res, err := testrun.Run(t, testproc.Command("spew", strconv.Itoa(total)), safeexec.WithOutputLimit(limit))
		require.NoError(t, err)
		assert.EqualValues(t, total, res.Stdout.Total)
		assert.EqualValues(t, total-limit, res.Stdout.Dropped)
		kept := res.Stdout.Bytes()
		require.Len(t, kept, int(limit))
		head := limit - limit/2
		if limit == total {
			head = limit
		}
		assert.NoError(t, testproc.CheckPattern(kept[:head], 0), limit)
		assert.NoError(t, testproc.CheckPattern(kept[head:], total-limit+head), limit)
	}
}

// A flood on both streams keeps neither of them waiting, nor standard input, nor the end of the run.
func TestFloodStarvesNothing(t *testing.T) {
	t.Parallel()
	const script = `"$0" spew-forever & "$0" spew-forever 2 & read line; echo "$line" >&3; wait`
	for name, streamed := range map[string]bool{"captured": false, "streamed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			helper := testproc.Command("spew-forever")
			cmd := exec.Command("sh", "-c", script, helper.Path)
			cmd.Env = helper.Env
			out, err := os.CreateTemp(t.TempDir(), "answer")
			require.NoError(t, err)
			defer out.Close()
			cmd.ExtraFiles = []*os.File{out}
			question, ask := io.Pipe()
			cmd.Stdin = question
			defer ask.Close()
			if streamed {
				cmd.Stdout, cmd.Stderr = new(testproc.PatternChecker), new(testproc.PatternChecker)
			}
			canary := testproc.WithCanary(t, cmd)
			ctx, cancel := context.WithCancel(testproc.Deadline(t))
			defer cancel()
			p, err := safeexec.Start(ctx, cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithoutReport(),
				safeexec.WithDrainTimeout(testrun.Unbounded)) // a busy machine takes its time to check a chunk
			require.NoError(t, err)
			for fd := 1; fd <= 2; fd++ {
				testproc.Wait(t, func() bool { return pipeSize(p.PID(), fd) > defaultPipe })
			}
			_, err = io.WriteString(ask, "hello\n")
			require.NoError(t, err)
			testproc.Wait(t, func() bool {
				answer, err := os.ReadFile(out.Name())
				return err == nil && string(answer) == "hello\n"
			})
			ask.Close() // else the Reader never returns
			cancel()
			res, err := p.Wait()
			assert.ErrorIs(t, err, context.Canceled)
			assert.Empty(t, res.Abandoned)
			assert.Empty(t, res.Survivors)
			assert.Positive(t, res.Stdout.Total)
			assert.Positive(t, res.Stderr.Total)
			canary.WaitGone(t)
			for _, w := range []io.Writer{cmd.Stdout, cmd.Stderr} {
				if checker, ok := w.(*testproc.PatternChecker); ok {
					assert.NoError(t, checker.Err)
				}
			}
		})
	}
}
