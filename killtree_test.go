//go:build linux

package safeexec_test

import (
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestCancelEndsTheTree(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("fork", "10")
	canary := testproc.WithCanary(t, cmd)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p, pids, _ := testrun.StartReady(t, ctx, cmd, safeexec.WithTimeout(testrun.Unbounded))
	require.Len(t, pids, 11)
	cancel()
	res, err := p.Wait()
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrCanceled)
	assert.Len(t, res.Killed, 10)
	for _, killed := range res.Killed {
		assert.Contains(t, pids[1:], killed.PID)
		assert.NotZero(t, killed.StartTicks)
		assert.NotEmpty(t, killed.Name)
	}
}

// A leader that ends at TERM at once must not cost its child the grace period.
func TestGracePeriodWatchesTheTree(t *testing.T) {
	testproc.NoLeaks(t)
	in, w, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer w.Close()
	cmd := testproc.Command("grandchild-term")
	cmd.Stdin = in
	canary := testproc.WithCanary(t, cmd)
	p, _, out := testrun.StartReady(t, context.Background(), cmd,
		safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
	stopped := make(chan struct{})
	go func() { defer close(stopped); _, _ = p.Stop() }()
	require.Equal(t, "child got TERM", testproc.ReadLine(t, out))
	select {
	case <-stopped:
		t.Fatal("the run ended while the child was cleaning up")
	default:
	}
	_, err = io.WriteString(w, "go on\n")
	require.NoError(t, err)
	assert.Equal(t, "child done", testproc.ReadLine(t, out))
	<-stopped
	canary.WaitGone(t)
}

func TestTermIgnored(t *testing.T) {
	testproc.NoLeaks(t)
	const grace = 100 * time.Millisecond
	cmd := testproc.Command("ignore", "TERM")
	canary := testproc.WithCanary(t, cmd)
	p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(grace))
	res, err := p.Stop()
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Equal(t, syscall.SIGKILL, res.Signal)
	assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
	assert.GreaterOrEqual(t, res.Times.Stop, grace)
}

func TestNoGracePeriod(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("ignore", "TERM")
	canary := testproc.WithCanary(t, cmd)
	p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(0))
	res, _ := p.Stop()
	canary.WaitGone(t)
	assert.Equal(t, syscall.SIGKILL, res.Signal)
}

func TestTermSignal(t *testing.T) {
	testproc.NoLeaks(t)
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGHUP, syscall.SIGKILL} {
		p, _, _ := testrun.StartReady(t, context.Background(), testproc.Command("ignore", "TERM"),
			safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded), safeexec.WithTermSignal(sig))
		res, _ := p.Stop()
		assert.Equal(t, sig, res.Signal)
	}
}

// A member that dies just before a look must not leave the run waiting for its death to be reported.
func TestManyMembersDieAtOnce(t *testing.T) {
	testproc.NoLeaks(t)
	for range testproc.Rounds(1) {
		cmd := testproc.Command("fork", "40")
		canary := testproc.WithCanary(t, cmd)
		p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
		res, err := p.Stop()
		canary.WaitGone(t)
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.Equal(t, syscall.SIGTERM, res.Signal)
	}
}

// A stopped process hears TERM only once it is continued.
func TestStoppedProcessEnds(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("stop-self")
	canary := testproc.WithCanary(t, cmd)
	p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
	var ws syscall.WaitStatus
	_, err := syscall.Wait4(p.PID(), &ws, syscall.WUNTRACED, nil)
	require.NoError(t, err)
	require.True(t, ws.Stopped())
	res, err := p.Stop()
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Equal(t, syscall.SIGTERM, res.Signal)
}

func TestBackgroundProcessIsEnded(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("background")
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd)
	canary.WaitGone(t)
	require.NoError(t, err)
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	assert.Contains(t, res.Stdout.String(), "start ok")
	assert.Len(t, res.Killed, 1)
	assert.Empty(t, res.Holders)
	assert.GreaterOrEqual(t, res.Times.Stop, safeexec.DefaultLinger)
}

// What ends by itself within the linger is left to do so: its output is complete.
func TestBackgroundProcessLingers(t *testing.T) {
	testproc.NoLeaks(t)
	res, err := safeexec.Run(testproc.Deadline(t), exec.Command("sh", "-c", "echo early; (sleep 0.2; echo late) &"),
		safeexec.WithLinger(testrun.Unbounded))
	require.NoError(t, err)
	assert.Equal(t, "early\nlate", res.Stdout.String())
	assert.Empty(t, res.Killed)
}

// A process outside of the tree that holds the pipes is named, not waited for, and not touched.
func TestHolderIsNamed(t *testing.T) {
	testproc.NoLeaks(t)
	stdin, release := io.Pipe()
	cmd := exec.Command("sh", "-c", "read x; echo start ok")
	cmd.Stdin = stdin
	p, err := safeexec.Start(testproc.Deadline(t), cmd, safeexec.WithDrainTimeout(testrun.Bound))
	require.NoError(t, err)
	stranger := testproc.HoldPipes(t, p.PID())
	require.NoError(t, release.Close())
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrPipeHeld)
	require.ErrorIs(t, err, exec.ErrWaitDelay)
	assert.Equal(t, "start ok", res.Stdout.String())
	assert.Empty(t, res.Killed)
	require.Len(t, res.Holders, 1)
	assert.Equal(t, stranger.Process.Pid, res.Holders[0].PID)
	assert.Equal(t, []int{12, 13}, res.Holders[0].FDs)
	assert.NotEmpty(t, res.Holders[0].Name)
	assert.False(t, testproc.Dead(stranger.Process.Pid))
}

// A process in uninterruptible sleep outlives SIGKILL. The run ends all the same, and says so.
func TestSurvivorIsReported(t *testing.T) {
	testproc.NoLeaks(t)
	file := testproc.HungFile(t)
	cmd := exec.Command("cat", file)
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded),
		safeexec.WithGracePeriod(50*time.Millisecond), safeexec.WithKillTimeout(50*time.Millisecond),
		safeexec.WithDrainTimeout(50*time.Millisecond))
	require.NoError(t, err)
	testproc.WaitHung(t, file)
	require.NoError(t, p.SetTimeout(time.Millisecond))
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	require.Len(t, res.Survivors, 1)
	assert.Equal(t, p.PID(), res.Survivors[0].PID)
	assert.Equal(t, "cat", res.Survivors[0].Name)
	assert.Contains(t, res.Abandoned, safeexec.AbandonedLeader) // and a look, on a busy machine
	assert.Nil(t, res.State)
	assert.Equal(t, -1, res.ShellCode())
}

// A chain of processes, each of which forks the next and exits, outruns a single look.
func TestChainIsCaughtUpWith(t *testing.T) {
	testproc.HasProgram(t, "perl")
	testproc.NoLeaks(t)
	for _, hops := range []string{"3", "10", "100"} {
		for range testproc.Rounds(5) {
			cmd := exec.Command("perl", "-e", `
				if (!fork) {
					for (1 .. $ARGV[0]) { exit if fork }
					sleep 600;
				}`, hops)
			canary := testproc.WithCanary(t, cmd)
			res, err := safeexec.Run(testproc.Deadline(t), cmd, safeexec.WithLinger(0))
			canary.CloseParent()
			if testproc.IsDisabled("loadavg") && len(canary.Living()) > 0 {
				t.Skip("without the last PID, looks that a busy machine outruns are believed")
			}
			require.NoError(t, err)
			canary.WaitGone(t)
			assert.Empty(t, res.Survivors)
		}
	}
}

// The linger is within the budget of the run, and Stop and cancel cut it short.
func TestLingerIsCutShort(t *testing.T) {
	t.Parallel()
	script := func() *exec.Cmd { return exec.Command("sh", "-c", "sleep 600 & echo ok") }
	lingers := safeexec.Options(safeexec.WithLinger(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
	t.Run("timeout", func(t *testing.T) {
		t.Parallel()
		for timeout := testrun.Soon; ; timeout *= 2 {
			res, err := safeexec.Run(context.Background(), script(), lingers, safeexec.WithTimeout(timeout))
			if err != nil && timeout < testrun.Bound { // the shell had no time to exit
				require.ErrorIs(t, err, safeexec.ErrTimeout)
				continue
			}
			require.NoError(t, err)
			assert.Equal(t, safeexec.CauseExited, res.Cause)
			assert.Len(t, res.Killed, 1)
			return
		}
	})
	t.Run("stop", func(t *testing.T) {
		t.Parallel()
		p, err := safeexec.Start(context.Background(), script(), lingers, safeexec.WithTimeout(testrun.Unbounded))
		require.NoError(t, err)
		testproc.WaitState(t, p.PID(), "Z")
		res, err := p.Stop()
		require.NoError(t, err, "it had exited by itself")
		assert.Equal(t, "ok", res.Stdout.String())
	})
}

// A tracer keeps its tracee's zombie from the parent. The run ends all the same.
func TestTracedLeaderIsNotWaitedFor(t *testing.T) {
	testproc.HasProgram(t, "python3")
	testproc.NoLeaks(t)
	cmd := exec.Command("sleep", "600")
	p, err := safeexec.Start(context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(0),
		safeexec.WithKillTimeout(100*time.Millisecond))
	require.NoError(t, err)
	// The tracer is none of the tree's, outlives the run, and is ended by the end of its input.
	tracer := exec.Command(testproc.HasProgram(t, "python3"), "-S", "-c", `import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
ok = libc.ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0  # PTRACE_SEIZE
print("ready", os.getpid() if ok else 1, flush=True)
os.read(0, 1)`, strconv.Itoa(p.PID()))
	release, err := tracer.StdinPipe()
	require.NoError(t, err)
	seized := testproc.StartStranger(t, tracer)
	res, err := p.Stop()
	if seized[0] == 1 {
		t.Skip("needs a process that may trace another")
	}
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	assert.Contains(t, res.Abandoned, safeexec.AbandonedLeader) // and a look, on a busy machine
	require.NoError(t, release.Close())
	testproc.WaitState(t, p.PID(), "\x00")
}
