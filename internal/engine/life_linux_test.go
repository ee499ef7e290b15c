package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// gated returns a shell whose descriptor 3 comes to its end when the test closes the gate. It has no standard error: a
// child would have it on the way to its own redirections.
func gated(t *testing.T, script string) (cmd *exec.Cmd, gate io.Closer) {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close(); w.Close() })
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { null.Close() })
	cmd = testproc.Shell(script)
	cmd.Stderr = null
	cmd.ExtraFiles = []*os.File{r}
	return cmd, w
}

// telling has a command write to a pipe of the test's.
func telling(t *testing.T, cmd *exec.Cmd) (out *os.File) {
	t.Helper()
	out, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { out.Close(); w.Close() })
	cmd.Stdout = w
	return out
}

// pids returns the numbers of processes.
func pids(list []proctree.Process) (all []int) {
	for _, p := range list {
		all = append(all, p.PID)
	}
	return all
}

func TestExit(t *testing.T) {
	f := ran(t, testproc.Shell("echo out; echo err >&2; exit 3"), patient())
	assert.Equal(t, CauseExited, f.Cause)
	assert.Equal(t, 3, f.State.ExitCode())
	assert.Equal(t, f.PID, f.State.Pid())
	assert.Equal(t, "out\n", string(f.Output[1].Data))
	assert.Equal(t, "err\n", string(f.Output[2].Data))
	assert.Zero(t, f.Signal)
	assert.NotZero(t, f.Tracks)
	assert.Equal(t, ContainmentBest, f.Containment)
	assert.Equal(t, usage.Seen, f.Usage.CPU)
	assert.Empty(t, f.Killed)
	assert.Zero(t, f.Held)
	assert.Zero(t, f.StartRetries)
}

func TestMergedOutput(t *testing.T) {
	cfg := patient()
	cfg.Merge = true
	f := ran(t, testproc.Shell("echo a; echo b >&2; echo c"), cfg)
	assert.Equal(t, "a\nb\nc\n", string(f.Output[1].Data))
	assert.Zero(t, f.Output[2])
}

func TestDeadlineOfACommand(t *testing.T) {
	cmd, _ := gated(t, "read x <&3")
	late := fresh()
	late.Facts.Started = time.Now().Add(-2 * never)
	assert.Equal(t, ErrCause, late.Begin(t.Context(), cmd, patient(), late.host), "it has passed before the start")
	assert.Equal(t, CauseTimeout, late.Facts.Cause)
	require.Nil(t, cmd.Process)

	cmd, _ = gated(t, "read x <&3")
	r := live(t, cmd, patient())
	assert.True(t, r.SetTimeout(1))
	f := r.ends(t)
	assert.Equal(t, CauseTimeout, f.Cause)
	assert.Equal(t, DeadlineSet, f.Settled)
	assert.Equal(t, syscall.SIGTERM, f.Signal)
	assert.Equal(t, SignalerSafeexec, f.SignaledBy)
	assert.Equal(t, []Cause{CauseTimeout}, r.host.ending)
}

// The grace period has no end of its own here: it is Kill that ends it. A stopped process hears of the first signal.
func TestStopThenKill(t *testing.T) {
	cmd, _ := gated(t, `trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done`)
	out := telling(t, cmd)
	r := live(t, cmd, patient())
	require.Equal(t, "ready", testproc.ReadLine(t, out))
	require.NoError(t, r.Signal(syscall.SIGSTOP))
	testproc.Wait(t, func() bool { return testproc.State(r.Facts.PID) == 'T' })
	r.Stop()
	require.Equal(t, "told", testproc.ReadLine(t, out))
	r.Stop()
	r.Kill()
	f := r.ends(t)
	assert.Equal(t, CauseStopped, f.Cause)
	assert.Equal(t, syscall.SIGKILL, f.Signal)
	assert.Equal(t, SignalerSafeexec, f.SignaledBy)
	assert.Empty(t, f.Survivors)
	assert.Equal(t, os.ErrProcessDone, r.PassOn(syscall.SIGINT))
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cmd, _ := gated(t, "read x <&3")
	r := fresh()
	r.live(t, ctx, cmd, patient())
	cancel(io.EOF)
	f := r.ends(t)
	assert.Equal(t, CauseCanceled, f.Cause)
	assert.Equal(t, []error{context.Canceled, io.EOF}, []error{f.CtxErr, f.CtxCause})
}

// The context of the command's own ends it as well, and is asked for what it was.
func TestCommandsOwnContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	gate, w, err := os.Pipe()
	require.NoError(t, err)
	defer w.Close()
	defer gate.Close()
	cmd := exec.CommandContext(ctx, "cat")
	cmd.Stdin = gate
	r := live(t, cmd, patient())
	cancel()
	f := r.ends(t)
	assert.Equal(t, CauseCanceled, f.Cause)
	require.NoError(t, f.CtxErr)
	assert.Equal(t, DeadlineCommands, f.Settled)
	assert.Equal(t, syscall.SIGTERM, f.Signal)
}

// A passed context is one whose deadline passes when the test says so.
type passed struct {
	context.Context
	done <-chan struct{}
}

func (p passed) Done() <-chan struct{} { return p.done }
func (p passed) Err() error {
	select {
	case <-p.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

func TestCommandsOwnDeadline(t *testing.T) {
	done := make(chan struct{})
	own, _ := gated(t, "read x <&3")
	cmd := exec.CommandContext(passed{t.Context(), done}, own.Path, own.Args[1:]...)
	cmd.Stderr, cmd.ExtraFiles = own.Stderr, own.ExtraFiles
	r := live(t, cmd, patient())
	close(done)
	f := r.ends(t)
	assert.Equal(t, CauseTimeout, f.Cause)
	assert.Equal(t, DeadlineCommands, f.Settled)
	assert.Equal(t, []Cause{CauseCanceled}, r.host.ending, "which is all that is known at that time")
}

// Where the pipes of StdoutPipe and StderrPipe are held, so that closing them is left behind, the context of the
// command's own is not asked: that would close them once more.
func TestCommandsOwnContextBehindHeldPipes(t *testing.T) {
	testproc.NeedsMissingPages(t)
	ctx, cancel := context.WithCancel(t.Context())
	own, _ := gated(t, "echo some; echo some >&2; exec >&- 2>&-; read x <&3")
	cmd := exec.CommandContext(ctx, own.Path, own.Args[1:]...)
	cmd.ExtraFiles = own.ExtraFiles
	cfg := patient()
	cfg.Drain = 10 * time.Millisecond
	var readers []int
	for _, pipe := range []func() (io.ReadCloser, error){cmd.StdoutPipe, cmd.StderrPipe} {
		out, err := pipe()
		require.NoError(t, err)
		again, err := unix.Open("/proc/self/fd/"+strconv.Itoa(int(out.(*os.File).Fd())), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { unix.Close(again) })
		readers = append(readers, again)
	}
	r := live(t, cmd, cfg)
	for _, fd := range readers {
		testproc.Wait(t, func() bool { found, err := sys.Ready(fd); return err == nil && found.Readable && found.Hangup })
		testproc.HoldByReading(t, fd)
	}
	cancel()
	f := r.ends(t)
	assert.Equal(t, CauseCanceled, f.Cause)
	assert.Equal(t, []Abandoned{AbandonedPipe}, f.Abandoned)
}

// forks leaves a process that ends with the gate, tells its number, and exits.
const forks = `cat <&3 >/dev/null 2>&1 & echo $!; exit 5`

// left begins a run that leaves a process, and returns once the leader has exited.
func left(t *testing.T, cfg *Config) (r trial, child int, gate io.Closer) {
	t.Helper()
	if testproc.IsDisabled("sweep") {
		t.Skip("nobody is found")
	}
	cmd, gate := gated(t, forks)
	out := telling(t, cmd)
	r = live(t, cmd, cfg)
	child, err := strconv.Atoi(testproc.ReadLine(t, out))
	require.NoError(t, err)
	if cfg.Linger > 0 || cfg.Background == BackgroundWait {
		r.has(t, func() bool { return r.Exited })
	}
	return r, child, gate
}

func TestBackgroundIsEnded(t *testing.T) {
	r, child, _ := left(t, patient())
	f := r.ends(t)
	assert.Equal(t, CauseExited, f.Cause)
	assert.Equal(t, 5, f.State.ExitCode())
	assert.Equal(t, []int{child}, pids(f.Killed))
	assert.Empty(t, f.Left)
	assert.Empty(t, f.Survivors)
	assert.Empty(t, r.host.ending, "the command has ended by itself")
}

// What ends by itself within the linger is sent nothing.
func TestLinger(t *testing.T) {
	cfg := patient()
	cfg.Linger = never
	r, _, gate := left(t, cfg)
	require.NoError(t, gate.Close())
	f := r.ends(t)
	assert.Equal(t, CauseExited, f.Cause)
	assert.Empty(t, f.Killed)
	assert.Positive(t, f.Times.Stop)
}

// Stop cuts the linger short, and the command has exited all the same.
func TestLingerIsCutShort(t *testing.T) {
	cfg := patient()
	cfg.Linger = never
	r, child, _ := left(t, cfg)
	r.Stop()
	f := r.ends(t)
	assert.Equal(t, CauseExited, f.Cause)
	assert.Equal(t, 5, f.State.ExitCode())
	assert.Equal(t, []int{child}, pids(f.Killed))
	assert.Zero(t, f.SignaledBy)
}

func TestBackgroundIsWaitedFor(t *testing.T) {
	cfg := patient()
	cfg.Background = BackgroundWait
	r, _, gate := left(t, cfg)
	testproc.Wait(t, func() bool { return errors.Is(r.Signal(syscall.SIGINT), os.ErrProcessDone) })
	assert.True(t, r.SetTimeout(2*never), "the run goes on")
	require.NoError(t, gate.Close())
	f := r.ends(t)
	assert.Equal(t, CauseExited, f.Cause)
	assert.Empty(t, f.Killed)
	assert.Zero(t, f.Times.Stop)
	assert.False(t, r.SetTimeout(never))
	assert.Empty(t, r.host.ending)
}

// While the background is waited for a reason to end it is the cause.
func TestWaitEndsWithAReason(t *testing.T) {
	for cause, end := range map[Cause]func(r *Run){
		CauseStopped: func(r *Run) { r.Stop() },
		CauseTimeout: func(r *Run) { r.SetTimeout(1) },
	} {
		cfg := patient()
		cfg.Background = BackgroundWait
		r, child, _ := left(t, cfg)
		end(r.Run)
		f := r.ends(t)
		assert.Equal(t, cause, f.Cause)
		assert.Equal(t, 5, f.State.ExitCode())
		assert.Equal(t, []int{child}, pids(f.Killed))
		assert.Equal(t, []Cause{cause}, r.host.ending)
	}
}

// What is left is named, and gets no signal.
func TestBackgroundIsLeft(t *testing.T) {
	cfg := patient()
	cfg.Background = BackgroundLeave
	r, child, gate := left(t, cfg)
	f := r.ends(t)
	assert.Equal(t, CauseExited, f.Cause)
	assert.Equal(t, []int{child}, pids(f.Left))
	assert.Empty(t, f.Killed)
	assert.Empty(t, f.LeftPipes)
	assert.True(t, f.Left[0].Alive())
	assert.Equal(t, os.ErrProcessDone, r.PassOn(syscall.SIGINT))
	require.NoError(t, gate.Close())
	testproc.Wait(t, func() bool { return !f.Left[0].Alive() })
}

// A pipe that is left with the background is discarded from then on.
func TestPipeIsLeft(t *testing.T) {
	if testproc.IsDisabled("sweep") {
		t.Skip("nobody is found")
	}
	cfg := patient()
	cfg.Background = BackgroundLeave
	cmd, gate := gated(t, "echo first; cat <&3 & exit 0")
	r := live(t, cmd, cfg)
	f := r.ends(t)
	assert.Zero(t, r.places)
	require.Len(t, f.LeftPipes, 1)
	assert.Equal(t, 1, f.LeftPipes[0].FD)
	assert.Len(t, f.Left, 1)
	assert.Equal(t, "first\n", string(f.Output[1].Data))
	assert.Empty(t, f.Holders)
	assert.Zero(t, f.Held)
	require.NoError(t, gate.Close())
	testproc.Wait(t, func() bool { return len(LeftPipes()) == 0 })
}

// A command that was to have limits and has none leaves nobody.
func TestNoLimits(t *testing.T) {
	cfg := patient()
	cfg.Background = BackgroundLeave
	cfg.Limits = []ResourceLimit{{LimitOpenFiles, 1 << 62}}
	cmd, _ := gated(t, "read x <&3")
	f := ran(t, cmd, cfg)
	assert.Equal(t, CauseLimits, f.Cause)
	require.ErrorIs(t, f.LimitErr, syscall.EPERM)
	assert.Equal(t, syscall.SIGTERM, f.Signal)

	cfg = patient()
	cfg.Proof = true
	cfg.Limits = []ResourceLimit{{LimitOpenFiles, 1 << 62}}
	cmd, _ = gated(t, "read x <&3")
	_, err := tried(t.Context(), cmd, cfg)
	if errors.Is(err, ErrProofRefused) {
		t.Skip(err)
	}
	require.ErrorIs(t, err, ErrLimits)
	require.ErrorIs(t, err, syscall.EPERM)
}

// A pipe that somebody outside the tree holds does not hold the run, and the holder is named. Here it is this process.
func TestHeldPipe(t *testing.T) {
	r := fresh()
	var ours int
	r.host.onStart = func() {
		var err error
		ours, err = unix.FcntlInt(r.Streams.Each[1].Child.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		assert.NoError(t, err)
	}
	r.live(t, t.Context(), exec.Command("echo", "all"), patient())
	f := r.ends(t)
	require.NoError(t, unix.Close(ours))
	assert.Equal(t, CauseExited, f.Cause)
	assert.Equal(t, [3]bool{1: true}, f.Held)
	require.Len(t, f.Holders, 1)
	assert.Equal(t, os.Getpid(), f.Holders[0].PID)
	assert.Contains(t, f.Holders[0].FDs, ours)
	assert.Equal(t, "all\n", string(f.Output[1].Data))
	assert.NotContains(t, f.Abandoned, AbandonedPipe)
}

func TestOutputLimit(t *testing.T) {
	cfg := patient()
	cfg.OutputLimit = 10
	f := ran(t, testproc.Shell("printf abcde; printf %01000d 7"), cfg)
	assert.Equal(t, CauseExited, f.Cause)
	assert.EqualValues(t, 1005, f.Output[1].Total)
	assert.EqualValues(t, 995, f.Output[1].Dropped)
	assert.Equal(t, "abcde00007", string(f.Output[1].Data))

	cfg = patient()
	cfg.OutputLimit, cfg.OverflowStops = 10, true
	f = ran(t, exec.Command("yes"), cfg)
	assert.Equal(t, CauseOutputLimit, f.Cause)
	assert.Greater(t, f.Output[1].Total, int64(10))
	assert.Equal(t, strings.Repeat("y\n", 5), string(f.Output[1].Data))
}

func TestWriterFails(t *testing.T) {
	cfg := patient()
	cfg.StopOnWriteError = true
	cmd := exec.Command("yes")
	cmd.Stdout = failing{}
	f := ran(t, cmd, cfg)
	assert.Equal(t, CauseWriterFailed, f.Cause)
	require.ErrorIs(t, f.Output[1].Err, io.ErrClosedPipe)
	assert.Equal(t, f.Output[1].Total, f.Output[1].Undelivered)
}

// A signal of the caller's reaches the tree, and what it has used is told meanwhile.
func TestPassOn(t *testing.T) {
	cmd, _ := gated(t, `trap 'echo interrupted; exit 7' USR1; echo ready; while :; do sleep 0.05; done`)
	out := telling(t, cmd)
	r := live(t, cmd, patient())
	require.Equal(t, "ready", testproc.ReadLine(t, out))
	var err error
	var used usage.Total
	require.True(t, r.Ask(func() { used, err = r.UsageNow(), r.PassOn(syscall.SIGUSR1) }, nil))
	require.NoError(t, err)
	assert.Zero(t, used.Read)
	assert.Equal(t, "interrupted", testproc.ReadLine(t, out))
	f := r.ends(t)
	assert.Equal(t, CauseExited, f.Cause)
	assert.Equal(t, 7, f.State.ExitCode())
}

// Code of the caller's that panics in the run's goroutine does not leave the command behind.
func TestRescue(t *testing.T) {
	cmd, _ := gated(t, "trap '' TERM; read x <&3")
	r, err := tried(t.Context(), cmd, patient())
	require.NoError(t, err)
	r.ctx = fixed{Context: r.ctx, asks: func() { panic("context") }}
	assert.PanicsWithValue(t, "context", r.Supervise)
	r.ctx = t.Context()
	r.Conclude()
	assert.Equal(t, syscall.SIGKILL, r.Facts.Signal)
	assert.Equal(t, SignalerSafeexec, r.Facts.SignaledBy)
	assert.False(t, r.questions.Put(func() {}))
	assert.Empty(t, runs.calls)
}
