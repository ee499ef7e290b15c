package tree_test

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A plant is a tree that os/exec has started, and not safeexec.
type plant struct {
	*testproc.Canary
	cmd  *exec.Cmd
	out  *os.File
	pids []int // of its ready line
}

// grow starts cmd and reads its ready line. What is left of it is killed at the end of the test.
func grow(t *testing.T, cmd *exec.Cmd) *plant {
	t.Helper()
	p := &plant{Canary: testproc.NewCanary(t), cmd: cmd}
	out, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { out.Close() })
	p.out, cmd.Stdout, cmd.Stderr = out, w, os.Stderr
	cmd.ExtraFiles = append(cmd.ExtraFiles, p.File())
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	p.CloseParent()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	p.pids = testproc.Ready(t, out)
	return p
}

func (p *plant) root() safeexec.Target { return safeexec.OSProcess(p.cmd.Process) }

// watched runs a bystander of the same name beside the test, which must not be touched.
func watched(t *testing.T) {
	t.Helper()
	cmd := testproc.Command("hang")
	bystander := grow(t, cmd)
	t.Cleanup(func() { assert.False(t, testproc.Dead(bystander.pids[0]), "the bystander") })
}

func TestKillTree(t *testing.T) {
	testproc.NoLeaks(t)
	watched(t)
	p := grow(t, testproc.Command("fork", "10"))
	res, err := safeexec.KillTree(testproc.Deadline(t), p.root(), safeexec.WithGracePeriod(testrun.Unbounded))
	require.NoError(t, err)
	p.WaitGone(t)
	assert.Equal(t, p.pids[0], res.Root.PID)
	assert.NotZero(t, res.Root.StartTicks)
	assert.NotEmpty(t, res.Root.Name)
	assert.ElementsMatch(t, p.pids, testrun.PIDs(res.Killed))
	assert.Equal(t, res.Root, res.Killed[0])
	assert.Empty(t, res.Survivors)
	assert.True(t, res.Tracks.Has(safeexec.TrackParent), res.Tracks)
	require.Error(t, p.cmd.Wait(), "it was left for its owner to reap")
	assert.Equal(t, syscall.SIGTERM, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
}

// A root that goes at once must not cost its children their time, nor them be lost.
func TestKillTreeRootDiesFirst(t *testing.T) {
	testproc.NoLeaks(t)
	in, w, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer w.Close()
	cmd := testproc.Command("grandchild-term")
	cmd.Stdin = in
	p := grow(t, cmd)
	done := make(chan error, 1)
	go func() {
		_, err := safeexec.KillTree(context.Background(), p.root(), safeexec.WithGracePeriod(testrun.Unbounded))
		done <- err
	}()
	require.Equal(t, "child got TERM", testproc.ReadLine(t, p.out))
	_ = p.cmd.Wait() // nothing pins the root's number any more
	select {
	case <-done:
		t.Fatal("it ended while the child was cleaning up")
	default:
	}
	_, err = io.WriteString(w, "go on\n")
	require.NoError(t, err)
	assert.Equal(t, "child done", testproc.ReadLine(t, p.out))
	require.NoError(t, <-done)
	p.WaitGone(t)
}

// A program that forks at the end, in a session of its own, and has no parent then: it is found by the
// mark that its parent was given.
func TestKillTreeForkOnTerm(t *testing.T) {
	testproc.NoLeaks(t)
	watched(t)
	p := grow(t, testproc.Command("fork-term", "setsid"))
	res, err := safeexec.KillTree(testproc.Deadline(t), p.root(), safeexec.WithGracePeriod(100*time.Millisecond))
	require.NoError(t, err)
	p.WaitGone(t)
	assert.NotEmpty(t, res.Killed)
}

func TestKillTreeTermIgnored(t *testing.T) {
	testproc.NoLeaks(t)
	const grace = 100 * time.Millisecond
	for _, attr := range []*syscall.SysProcAttr{nil, {Setsid: true}} {
		cmd := testproc.Command("ignore", "TERM")
		cmd.SysProcAttr = attr
		p := grow(t, cmd)
		res, err := safeexec.KillTree(context.Background(), p.root(), safeexec.WithGracePeriod(grace),
			safeexec.WithKillTimeout(testrun.Unbounded))
		if !errors.Is(err, safeexec.ErrTreeUnseen) { // the last look, on a machine too busy for it to be believed
			require.NoError(t, err)
		}
		assert.Empty(t, res.Survivors)
		p.WaitGone(t)
		assert.GreaterOrEqual(t, res.Took, grace)
		require.Error(t, p.cmd.Wait())
		assert.Equal(t, syscall.SIGKILL, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal())
	}
}

func TestKillTreeForkStorm(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	testproc.NoLeaks(t)
	watched(t)
	for range testproc.Rounds(2) {
		cmd := exec.Command("sh", "-c", `trap "" TERM; echo ready $$; i=0
			while [ $i -lt 300 ]; do setsid sh -c 'sleep 600 & exec sleep 600' & (sleep 600 &) ; i=$((i+1)); done; wait`)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // or those are lost that were orphans before
		p := grow(t, cmd)
		res, err := safeexec.KillTree(testproc.Deadline(t), p.root(), safeexec.WithGracePeriod(0),
			safeexec.WithKillTimeout(testrun.Unbounded))
		require.NoError(t, err)
		p.WaitGone(t)
		assert.Empty(t, res.Survivors)
	}
}

// Two at once, and a third while the run that has started the tree ends it as well.
func TestKillTreeTwice(t *testing.T) {
	testproc.NoLeaks(t)
	watched(t)
	cmd := testproc.Command("fork", "5")
	canary := testproc.WithCanary(t, cmd)
	run, pids, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			_, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: pids[0]})
			if err != nil {
				assert.ErrorIs(t, err, safeexec.ErrNoProcess)
			}
		})
	}
	res, _ := run.Stop()
	all.Wait()
	canary.WaitGone(t)
	assert.Empty(t, res.Survivors)
}

// The leader of a run is a process like others, and the run ends with it.
func TestKillTreeOfARun(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("fork", "3")
	canary := testproc.WithCanary(t, cmd)
	run, pids, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
	killed, err := safeexec.KillTree(testproc.Deadline(t), safeexec.ProcessInfo{PID: run.PID()})
	require.NoError(t, err)
	assert.ElementsMatch(t, pids, testrun.PIDs(killed.Killed))
	res, err := run.Wait()
	canary.WaitGone(t)
	assert.Error(t, err)
	assert.Equal(t, safeexec.CauseExited, res.Cause)
	assert.Equal(t, safeexec.SignalerOther, res.SignaledBy)
}

// A canceled call says who is left, sends nothing more, and takes nobody away from the run.
func TestKillTreeCanceled(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command("sh", "-c", `sh -c 'trap "echo asked" TERM; echo ready $$; while :; do sleep 0.01; done' & wait; exec sleep 600`)
	canary := testproc.WithCanary(t, cmd)
	run, pids, out := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(0))
	ctx, cancel := context.WithCancelCause(context.Background())
	type answer struct {
		res safeexec.TreeResult
		err error
	}
	done := make(chan answer)
	go func() {
		res, err := safeexec.KillTree(ctx, safeexec.ProcessInfo{PID: pids[0]}, safeexec.WithGracePeriod(testrun.Unbounded))
		done <- answer{res, err}
	}()
	require.Equal(t, "asked", testproc.ReadLine(t, out))
	cancel(io.ErrNoProgress)
	a := <-done
	require.ErrorIs(t, a.err, safeexec.ErrCanceled)
	require.ErrorIs(t, a.err, io.ErrNoProgress)
	require.ErrorIs(t, a.err, safeexec.ErrSurvivors)
	assert.Equal(t, pids[0], a.res.Survivors[0].PID)
	assert.NoError(t, a.res.Survivors[0].Err)
	assert.False(t, testproc.Dead(pids[0]))
	_, err := run.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	canary.WaitGone(t)

	_, err = safeexec.KillTree(ctx, safeexec.ProcessInfo{PID: os.Getppid()})
	require.ErrorIs(t, err, safeexec.ErrCanceled, "before anything else")
}

// endedBetween is a context that is canceled between the first two times that it is asked.
type endedBetween struct {
	context.Context
	asked atomic.Bool
}

func (c *endedBetween) Err() error {
	if c.asked.Swap(true) {
		return context.Canceled
	}
	return nil
}

// Nothing is sent when the call is canceled while the tree is looked for.
func TestKillTreeCanceledBefore(t *testing.T) {
	testproc.NoLeaks(t)
	p := grow(t, testproc.Command("fork", "1"))
	res, err := safeexec.KillTree(&endedBetween{Context: context.Background()}, p.root(), safeexec.WithGracePeriod(testrun.Unbounded))
	require.ErrorIs(t, err, safeexec.ErrCanceled)
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	assert.Empty(t, res.Killed)
	assert.Len(t, res.Survivors, len(p.pids))
	_, err = safeexec.KillTree(testproc.Deadline(t), p.root(), safeexec.WithTermSignal(syscall.SIGKILL))
	require.NoError(t, err)
	p.WaitGone(t)
	require.Error(t, p.cmd.Wait())
	assert.Equal(t, syscall.SIGKILL, p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal(), "SIGTERM was not sent")
}

// late is a context that says of itself that it came late, and has no deadline. It counts how often it is
// listened to.
type late struct {
	context.Context
	listened atomic.Int32
}

func (c *late) Err() error {
	if c.Context.Err() != nil {
		return context.DeadlineExceeded
	}
	return nil
}

func (c *late) Done() <-chan struct{} {
	c.listened.Add(1)
	return c.Context.Done()
}

// A context that is over, and no reason to send nothing more, does not keep the call from waiting.
func TestKillTreeOwnContext(t *testing.T) {
	testproc.NoLeaks(t)
	in, w, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	defer w.Close()
	cmd := testproc.Command("grandchild-term")
	cmd.Stdin = in
	p := grow(t, cmd)
	base, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx := &late{Context: base}
	done := make(chan error)
	go func() {
		_, err := safeexec.KillTree(ctx, p.root(), safeexec.WithGracePeriod(testrun.Unbounded))
		done <- err
	}()
	require.Equal(t, "child got TERM", testproc.ReadLine(t, p.out))
	cancel()
	select {
	case err := <-done:
		t.Fatal("it did not wait: ", err)
	case <-time.After(testrun.Soon): // in which a call that did not wait would have listened very often
	}
	require.NoError(t, w.Close())
	require.NoError(t, <-done)
	p.WaitGone(t)
	assert.LessOrEqual(t, ctx.listened.Load(), int32(10))
}

// SIGKILL is sent in time for the deadline, however long the grace period.
func TestKillTreeDeadline(t *testing.T) {
	testproc.NoLeaks(t)
	for _, timeout := range []time.Duration{time.Millisecond, 300 * time.Millisecond} {
		p := grow(t, testproc.Command("ignore", "TERM"))
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		_, err := safeexec.KillTree(ctx, p.root(), safeexec.WithGracePeriod(testrun.Unbounded), safeexec.WithKillTimeout(100*time.Millisecond))
		cancel()
		if err != nil {
			require.ErrorIs(t, err, safeexec.ErrTimeout) // the machine was slow
			continue
		}
		p.WaitGone(t)
	}
}

// A process in uninterruptible sleep outlives SIGKILL.
func TestKillTreeSurvivor(t *testing.T) {
	testproc.NoLeaks(t)
	var cmd *exec.Cmd
	t.Cleanup(func() { // after the file system is gone, which keeps the process until then
		if cmd != nil {
			_ = cmd.Wait()
		}
	})
	file := testproc.HungFile(t)
	cmd = exec.Command("cat", file)
	require.NoError(t, cmd.Start())
	testrun.Explained(t, cmd.Process.Pid, `^\d+ cat is (blocked|in uninterruptible sleep) in read`)
	testproc.WaitHung(t, file)
	res, err := safeexec.KillTree(context.Background(), safeexec.OSProcess(cmd.Process), safeexec.WithGracePeriod(0),
		safeexec.WithKillTimeout(50*time.Millisecond))
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	require.Len(t, res.Survivors, 1)
	assert.Equal(t, cmd.Process.Pid, res.Survivors[0].PID)
	assert.NoError(t, res.Survivors[0].Err, "it was sent")
	assert.Empty(t, res.Killed)
}
