//go:build linux

package safeexec_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestRunStatus(t *testing.T) {
	t.Parallel()
	ctx := testproc.Deadline(t)

	res, err := safeexec.Run(ctx, testproc.Command("exit", "0"))
	require.NoError(t, err)
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	assert.Zero(t, res.ExitCode)
	assert.True(t, res.Success())
	assert.Positive(t, res.PID)
	assert.NotNil(t, res.State)

	res, err = safeexec.Run(ctx, testproc.Command("exit", "42"))
	exit, ok := err.(*exec.ExitError) //nolint:errorlint // that old assertions hold is the point
	require.True(t, ok, "%T", err)
	assert.Equal(t, 42, exit.ExitCode())
	assert.Equal(t, 42, res.ExitCode)
	assert.Equal(t, 42, res.ShellCode())
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	assert.False(t, res.Success())

	res, err = safeexec.Run(ctx, testproc.Command("exit-by-signal", "USR1"))
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, -1, res.ExitCode)
	assert.Equal(t, syscall.SIGUSR1, res.Signal)
	assert.Equal(t, 128+int(syscall.SIGUSR1), res.ShellCode())
	assert.Equal(t, safeexec.SignalerOther, res.SignaledBy)
}

func TestTimesAddUp(t *testing.T) {
	t.Parallel()
	before := time.Now()
	res, err := safeexec.Run(testproc.Deadline(t), testproc.Command("exit", "0"))
	after := time.Now()
	require.NoError(t, err)
	assert.False(t, res.Times.Started.Before(before))
	phases := res.Times.Start + res.Times.Run + res.Times.Stop + res.Times.Drain
	assert.Positive(t, res.Times.Start)
	assert.Positive(t, res.Times.Run)
	assert.GreaterOrEqual(t, res.Times.Total, phases)
	assert.LessOrEqual(t, res.Times.Total, after.Sub(before))
}

func TestProcessWaitFromEverywhere(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("term-exit", "7")
	p, pids, out := testrun.StartReady(t, testproc.Deadline(t), cmd)
	assert.Equal(t, pids[0], p.PID())
	select {
	case <-p.Done():
		t.Fatal("done before its end")
	default:
	}

	var waiting sync.WaitGroup
	results := make([]safeexec.Result, 8)
	errs := make([]error, len(results))
	for i := range results {
		waiting.Go(func() { results[i], errs[i] = p.Wait() })
	}
	require.NoError(t, p.Signal(syscall.SIGTERM))
	assert.Equal(t, "terminated", testproc.ReadLine(t, out))
	waiting.Wait()
	<-p.Done()
	for i := range results {
		assert.Equal(t, results[0], results[i])
		var exit *exec.ExitError
		require.ErrorAs(t, errs[i], &exit)
		assert.Equal(t, 7, exit.ExitCode())
	}
	res, err := p.Wait()
	assert.Equal(t, results[0], res)
	assert.Equal(t, errs[0], err)
	require.ErrorIs(t, p.Signal(syscall.SIGTERM), os.ErrProcessDone)

	stopped, _ := p.Stop()
	assert.Equal(t, res, stopped, "Stop after the end changes nothing")
}

func TestProcessNeverWaitedFor(t *testing.T) {
	testproc.NoLeaks(t)
	canary := testproc.NewCanary(t)
	cmd := testproc.Command("hang")
	cmd.ExtraFiles = []*os.File{canary.File()}
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded))
	require.NoError(t, err)
	require.NoError(t, p.SetTimeout(time.Millisecond))
	canary.WaitGone(t)
	<-p.Done()
	require.Nil(t, cmd.ProcessState, "as with os/exec, Wait sets it")
	_, err = p.Wait()
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	require.NotNil(t, cmd.ProcessState)
}

func TestProcessStop(t *testing.T) {
	testproc.NoLeaks(t)
	canary := testproc.NewCanary(t)
	cmd := testproc.Command("fork", "3")
	cmd.ExtraFiles = []*os.File{canary.File()}
	p, pids, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded))
	require.Len(t, pids, 4)
	res, err := p.Stop()
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrStopped)
	require.NotErrorIs(t, err, safeexec.ErrTimeout)
	assert.Equal(t, safeexec.CauseStopped, res.Cause)
	assert.Equal(t, syscall.SIGTERM, res.Signal)
	assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
	assert.Empty(t, res.Survivors)
}

func TestSignalIsTheCallers(t *testing.T) {
	t.Parallel()
	p, _, _ := testrun.StartReady(t, testproc.Deadline(t), testproc.Command("hang"))
	require.NoError(t, p.Signal(syscall.SIGHUP))
	_ = p.Signal(syscall.SIGCONT) // what was sent before is not forgotten
	res, err := p.Wait()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, syscall.SIGHUP, res.Signal)
	assert.Equal(t, safeexec.SignalerCaller, res.SignaledBy)
	assert.Equal(t, safeexec.CauseExited, res.Cause)
}

// The context that ends a run, and what has to be said about it. causeSet is what context.Cause has
// to find in the error.
func TestContextEndsRun(t *testing.T) {
	t.Parallel()
	errWhy := errors.New("the budget is spent")
	for _, c := range []struct {
		name  string
		ctx   func(soon time.Duration) (context.Context, context.CancelFunc)
		cause safeexec.Cause
		is    []error
	}{
		{"cancel", func(time.Duration) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancelCause(context.Background())
			return ctx, func() { cancel(errWhy) }
		}, safeexec.CauseCanceled, []error{safeexec.ErrCanceled, context.Canceled, errWhy}},
		{"deadline", func(soon time.Duration) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithTimeoutCause(context.Background(), soon, errWhy)
			context.AfterFunc(ctx, cancel) // it ends by itself
			return ctx, func() {}
		}, safeexec.CauseTimeout, []error{safeexec.ErrTimeout, context.DeadlineExceeded, errWhy}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var p *safeexec.Process
			var cancel context.CancelFunc
			for soon := testrun.Soon; p == nil; soon *= 2 { // until the machine starts it in that time
				var ctx context.Context
				var err error
				ctx, cancel = c.ctx(soon)
				if p, err = safeexec.Start(ctx, testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded)); err != nil {
					require.ErrorIs(t, err, safeexec.ErrTimeout)
					require.Less(t, soon, testrun.Bound)
				}
			}
			cancel()
			res, err := p.Wait()
			assert.Equal(t, c.cause, res.Cause)
			for _, is := range c.is {
				require.ErrorIs(t, err, is)
			}
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
			assert.Equal(t, syscall.SIGTERM, res.Signal)
		})
	}
}

// What the context says after the end is not why the run ended.
func TestLateCancelChangesNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(context.Background())
	p, err := safeexec.Start(ctx, testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded))
	require.NoError(t, err)
	require.NoError(t, p.SetTimeout(time.Millisecond))
	<-p.Done()
	cancel(errors.New("deferred clean-up"))
	res, err := p.Wait()
	assert.Equal(t, safeexec.CauseTimeout, res.Cause)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, context.Canceled)
	assert.NotContains(t, err.Error(), "clean-up")
}

func TestEarlierOfTimeoutAndDeadline(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), testrun.Unbounded)
	defer cancel()
	_, err := safeexec.Run(ctx, testproc.Command("hang"), safeexec.WithTimeout(50*time.Millisecond))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, ctx.Err(), "the context had time left")

	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = safeexec.Run(ctx, testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded))
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCommandContextEndsRun(t *testing.T) {
	t.Parallel()
	t.Run("canceled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		called := false
		helper := testproc.Command("hang")
		cmd := exec.CommandContext(ctx, helper.Path, helper.Args[1:]...)
		cmd.Env = helper.Env
		cmd.Cancel = func() error { called = true; return nil }
		p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded))
		cancel()
		res, err := p.Wait()
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, safeexec.CauseCanceled, res.Cause)
		assert.Equal(t, syscall.SIGTERM, res.Signal)
		assert.False(t, called, "Cancel is replaced")
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		helper := testproc.Command("hang")
		cmd := exec.CommandContext(ctx, helper.Path, helper.Args[1:]...)
		cmd.Env = helper.Env
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.NotErrorIs(t, err, context.Canceled)
		assert.Equal(t, safeexec.CauseTimeout, res.Cause)
	})
	t.Run("exits first", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		helper := testproc.Command("exit", "0")
		cmd := exec.CommandContext(ctx, helper.Path, helper.Args[1:]...)
		cmd.Env = helper.Env
		_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded))
		require.NoError(t, err)
	})
}

// With the kernel reaping children by itself nothing pins the leader's number. The end must be seen
// all the same, and be said to be unknown.
func TestStatusTakenByTheKernel(t *testing.T) {
	testproc.NoLeaks(t)
	ignoreChildren()
	defer restoreChildren()

	res, err := safeexec.Run(testproc.Deadline(t), testproc.Command("exit", "3"))
	require.ErrorIs(t, err, safeexec.ErrStatusUnknown)
	require.ErrorIs(t, err, syscall.ECHILD)
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	assert.Equal(t, -1, res.ExitCode)
	assert.Nil(t, res.State)

	canary := testproc.NewCanary(t)
	cmd := testproc.Command("hang")
	cmd.ExtraFiles = []*os.File{canary.File()}
	res, err = safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(50*time.Millisecond))
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.Equal(t, safeexec.CauseTimeout, res.Cause)
}

// startReading starts a command that exits once end is called.
func startReading(t *testing.T) (p *safeexec.Process, cmd *exec.Cmd, end func()) {
	t.Helper()
	in, w, err := os.Pipe()
	require.NoError(t, err)
	cmd = testproc.Command("echo-stdin")
	cmd.Stdin = in
	p, err = safeexec.Start(testproc.Deadline(t), cmd)
	require.NoError(t, err)
	require.NoError(t, in.Close())
	return p, cmd, func() { require.NoError(t, w.Close()) }
}

// exitedSomehow checks the result of a command whose status another wait may have taken: it is the
// command's own or reported as unknown.
func exitedSomehow(t *testing.T, res safeexec.Result, err error) {
	t.Helper()
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	if err != nil {
		require.ErrorIs(t, err, safeexec.ErrStatusUnknown)
		assert.Equal(t, -1, res.ExitCode)
	} else {
		assert.Zero(t, res.ExitCode)
	}
}

// A foreign reaper races with the run. Whichever wins, the run ends.
func TestForeignReaper(t *testing.T) {
	testproc.NoLeaks(t)
	for range testproc.Rounds(5) {
		p, _, end := startReading(t)
		var reaper sync.WaitGroup
		reaper.Go(func() {
			var ws syscall.WaitStatus
			for {
				if _, err := syscall.Wait4(p.PID(), &ws, 0, nil); !errors.Is(err, syscall.EINTR) {
					return
				}
			}
		})
		end()
		res, err := p.Wait()
		reaper.Wait()
		exitedSomehow(t, res, err)
	}
}

// The caller has cmd.Process, whose Release closes the descriptor that os.Process has. The end must be
// seen all the same, and take no thread.
func TestCallerReleasesTheProcess(t *testing.T) {
	testproc.NoLeaks(t)
	for range testproc.Rounds(5) {
		p, cmd, end := startReading(t)
		require.NoError(t, cmd.Process.Release())
		if !testproc.IsDisabled("pidfd") && !testproc.IsDisabled("epoll") {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			assert.NotContains(t, string(stacks), "WaitLeader(", "a thread waits for it")
		}
		end()
		res, err := p.Wait()
		exitedSomehow(t, res, err)
	}
}

// Its Wait takes the status and closes the descriptor.
func TestCallerWaitsForTheProcess(t *testing.T) {
	testproc.NoLeaks(t)
	for range 10 {
		p, cmd, end := startReading(t)
		var waiting sync.WaitGroup
		waiting.Go(func() { _, _ = cmd.Process.Wait() })
		end()
		res, err := p.Wait()
		waiting.Wait()
		exitedSomehow(t, res, err)
	}
}

// ignoreChildren has the kernel reap this process's children, until restoreChildren.
func ignoreChildren() { signal.Ignore(syscall.SIGCHLD) }

// restoreChildren goes by way of a handler: signal.Reset leaves SIGCHLD ignored.
func restoreChildren() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	signal.Stop(c)
}

// A caller may release cmd.Process. The command is reaped all the same.
func TestReleasedProcessIsReaped(t *testing.T) {
	testproc.NoLeaks(t)
	stdin, release := io.Pipe()
	cmd := exec.Command("cat")
	cmd.Stdin = stdin
	p, err := safeexec.Start(testproc.Deadline(t), cmd)
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Release())
	require.NoError(t, release.Close())
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrStatusUnknown)
	assert.Nil(t, res.State)
	testproc.WaitState(t, p.PID(), "\x00")
}
