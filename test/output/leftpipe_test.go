//go:build linux

package output_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// leaves makes a run return at the command's exit and at nothing else: each bound is beyond the test.
var leaves = safeexec.Options(safeexec.WithBackground(safeexec.BackgroundLeave), safeexec.WithTimeout(testrun.Unbounded),
	safeexec.WithLinger(testrun.Unbounded), safeexec.WithDrainTimeout(testrun.Unbounded))

// spewer is a start script that leaves a service, which writes to standard error without end.
func spewer() *exec.Cmd {
	helper := testproc.Command("spew-forever")
	cmd := exec.Command("sh", "-c", `echo starting >&2; "$0" spew-forever 2 & echo start ok`, helper.Path)
	cmd.Env = helper.Env
	return cmd
}

// release ends what a test has left, and waits until it is gone.
func release(t *testing.T, res *safeexec.Result, canary *testproc.Canary) {
	t.Helper()
	for _, p := range res.LeftPipes {
		p.Release()
		<-p.Done()
	}
	for _, pid := range canary.Holders() {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it holds our pipe, and so its number is its own
	}
	canary.WaitGone(t)
}

// pipeOf returns the pipe of an output that was left.
func pipeOf(t *testing.T, res *safeexec.Result, fd int) safeexec.LeftPipe {
	t.Helper()
	for _, p := range res.LeftPipes {
		if p.FD == fd {
			return p
		}
	}
	t.Fatalf("no pipe of descriptor %d was left: %+v", fd, res.LeftPipes)
	return safeexec.LeftPipe{}
}

// A service that writes more than a pipe holds neither blocks nor dies, until its pipe is released.
func TestLeave(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := spewer()
	canary := testproc.WithCanary(t, cmd)
	before := time.Now()
	res, err := safeexec.Run(context.Background(), cmd, leaves)
	require.NoError(t, err)
	canary.CloseParent()
	assert.True(t, res.Success())
	assert.Equal(t, "start ok", res.Stdout.String())
	assert.Empty(t, res.Killed)
	assert.Empty(t, res.Survivors)
	assert.Empty(t, res.Holders)
	require.Len(t, res.Left, 1)
	assert.Equal(t, []int{res.Left[0].PID}, canary.Holders())
	assert.NotZero(t, res.Left[0].StartTicks)

	require.Len(t, res.LeftPipes, 2)
	assert.ElementsMatch(t, res.LeftPipes, safeexec.LeftPipes())
	p := pipeOf(t, &res, 2)
	assert.Equal(t, res.PID, p.PID)
	assert.Equal(t, "sh", p.Program)
	assert.False(t, p.HeldElsewhere)
	assert.False(t, p.Since.Before(before))
	got := res.Stderr.Total
	testproc.Wait(t, func() bool { return p.Discarded() > 128<<10 })
	more := p.Discarded()
	testproc.Wait(t, func() bool { return p.Discarded() > more+128<<10 })
	assert.True(t, canary.Alive())
	assert.Equal(t, got, res.Stderr.Total, "what is discarded is not counted")

	p.Release()
	canary.WaitGone(t) // it has died of SIGPIPE
	<-pipeOf(t, &res, 1).Done()
	assert.Empty(t, safeexec.LeftPipes())
	p.Release()
}

// The start script of a service that logs to standard output.
func TestLeaveStartScript(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command("sh", "-c", "while :; do echo tick; sleep 0.05; done & echo start ok")
	canary := testproc.WithCanary(t, cmd)
	out, err := safeexec.Output(context.Background(), cmd, leaves)
	require.NoError(t, err)
	canary.CloseParent()
	assert.Contains(t, string(out), "start ok\n")
	left := safeexec.LeftPipes()
	require.Len(t, left, 2)
	res := safeexec.Result{LeftPipes: left}
	p := pipeOf(t, &res, 1)
	testproc.Wait(t, func() bool { return p.Discarded() >= 3*5 })
	assert.True(t, canary.Alive())
	release(t, &res, canary)
}

// A status other than 0, output of more than a pipe holds, and merged outputs: all as ever.
func TestLeaveKeepsStatusAndOutput(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command("sh", "-c", "sleep 600 & head -c 200000 /dev/zero; echo out; echo err >&2; exit 3")
	canary := testproc.WithCanary(t, cmd)
	var w bytes.Buffer
	cmd.Stdout, cmd.Stderr = &w, &w
	res, err := safeexec.Run(context.Background(), cmd, leaves)
	canary.CloseParent()
	_, plain := err.(*exec.ExitError) //nolint:errorlint // exactly that
	assert.True(t, plain, "%v", err)
	assert.Equal(t, 3, res.ExitCode)
	assert.Equal(t, 200000+8, w.Len())
	assert.True(t, bytes.HasSuffix(w.Bytes(), []byte("out\nerr\n")))
	require.Len(t, res.LeftPipes, 1, "one pipe for both")
	assert.Equal(t, 1, res.LeftPipes[0].FD)
	release(t, &res, canary)
}

func TestLeaveNobody(t *testing.T) {
	testproc.NoLeaks(t)
	for range testproc.Rounds(5) {
		res, err := safeexec.Run(context.Background(), testproc.Command("spew", "1000"), leaves)
		require.NoError(t, err)
		assert.EqualValues(t, 1000, res.Stdout.Total)
		assert.Empty(t, res.Left)
		assert.Empty(t, res.LeftPipes)
	}
	// A process that holds no pipe of ours.
	cmd := exec.Command("sh", "-c", "sleep 600 >/dev/null 2>&1 & echo ok")
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(context.Background(), cmd, leaves)
	require.NoError(t, err)
	canary.CloseParent()
	assert.Len(t, res.Left, 1)
	for _, p := range res.LeftPipes { // of a child that had not come to its redirections
		<-p.Done()
	}
	release(t, &res, canary)
}

// A daemon that is beyond the tree is a holder, and no error.
func TestLeaveDaemon(t *testing.T) {
	testproc.NoLeaks(t)
	for ctx := testproc.Deadline(t); !leavesDaemon(t); {
		require.NoError(t, ctx.Err())
	}
}

// leavesDaemon reports false where the look for the holders ended at its bound before it saw the daemon, as it can on
// a busy machine.
func leavesDaemon(t *testing.T) bool {
	t.Helper()
	cmd := testproc.Command("daemonize")
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(context.Background(), cmd, leaves)
	require.NoError(t, err)
	canary.CloseParent()
	require.Len(t, res.LeftPipes, 2)
	daemon := testproc.Ready(t, strings.NewReader(string(res.Stdout.Bytes())))[1]
	if len(res.Left) == 0 {
		// The one in the middle of the double fork may still be on its way out.
		i := slices.IndexFunc(res.Holders, func(h safeexec.Holder) bool { return h.PID == daemon })
		if i < 0 && res.HoldersPartial {
			release(t, &res, canary)
			return false
		}
		require.GreaterOrEqual(t, i, 0, "%+v", res.Holders)
		assert.Subset(t, res.Holders[i].FDs, []int{1, 2})
		assert.True(t, res.LeftPipes[0].HeldElsewhere)
	} else {
		assert.Equal(t, daemon, res.Left[len(res.Left)-1].PID)
	}
	release(t, &res, canary)
	return len(res.Left) == 0 || !res.LeftPipes[0].HeldElsewhere
}

// A timeout ends the whole tree under this policy too, and so does Stop.
func TestLeaveOnlyWhatExits(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("fork", "2")
	canary := testproc.WithCanary(t, cmd)
	p, _, _ := testrun.StartReady(t, context.Background(), cmd, leaves)
	res, err := p.Stop()
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Len(t, res.Killed, 2)
	assert.Empty(t, res.Left)

	cmd = testproc.Command("fork", "2")
	canary = testproc.WithCanary(t, cmd)
	res, err = testrun.Expires(t, cmd, leaves)
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.Empty(t, res.Left)
	assert.Empty(t, res.LeftPipes)
}

// Done is closed at the exit of the leader.
func TestLeaveFromStart(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := spewer()
	canary := testproc.WithCanary(t, cmd)
	p, err := safeexec.Start(context.Background(), cmd, leaves)
	require.NoError(t, err)
	<-p.Done()
	res, err := p.Wait()
	require.NoError(t, err)
	canary.CloseParent()
	stopped, err := p.Stop()
	require.NoError(t, err)
	assert.Equal(t, res, stopped)
	assert.True(t, canary.Alive(), "Stop comes too late")
	release(t, &res, canary)
}

// A lateWriter fails the test if it is called after its run.
type lateWriter struct {
	t    *testing.T
	over <-chan struct{}
}

func (w lateWriter) Write(p []byte) (int, error) {
	select {
	case <-w.over:
		w.t.Error("the Writer was called after Run had returned")
	default:
	}
	return len(p), nil
}

func TestLeaveCallsNoWriterLater(t *testing.T) {
	testproc.NoLeaks(t)
	over := make(chan struct{})
	cmd := spewer()
	cmd.Stderr = lateWriter{t, over}
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(context.Background(), cmd, leaves)
	close(over)
	require.NoError(t, err)
	canary.CloseParent()
	p := pipeOf(t, &res, 2)
	testproc.Wait(t, func() bool { return p.Discarded() > 256<<10 })
	assert.Zero(t, res.Stderr.Dropped)
	release(t, &res, canary)
}

// A Writer that does not return keeps neither the run nor the service.
func TestLeaveWithStuckWriter(t *testing.T) {
	testproc.NoLeaks(t)
	r, w := io.Pipe()
	cmd := spewer()
	cmd.Stderr = w
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(context.Background(), cmd, leaves, safeexec.WithDrainTimeout(50*time.Millisecond))
	require.ErrorIs(t, err, safeexec.ErrWriterStuck)
	canary.CloseParent()
	p := pipeOf(t, &res, 2)
	testproc.Wait(t, func() bool { return p.Discarded() > 256<<10 })
	require.NoError(t, r.Close())
	release(t, &res, canary)
}

func TestLeaveWithFDProof(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := spewer()
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(context.Background(), cmd, leaves, safeexec.WithFDProof())
	if errors.Is(err, safeexec.ErrProofRefused) {
		t.Skip(err)
	}
	require.NoError(t, err)
	canary.CloseParent()
	assert.True(t, res.FDsProved)
	assert.Len(t, res.LeftPipes, 2)
	release(t, &res, canary)
}

// With no room for its pipes a command is not started, and what others left does not matter once it ends.
func TestLeaveIsLimited(t *testing.T) {
	testproc.NoLeaks(t)
	var running []*safeexec.Process
	for range safeexec.MaxLeftPipes / 2 {
		p, err := safeexec.Start(context.Background(), exec.Command("sh", "-c", "exec sleep 600"), leaves)
		require.NoError(t, err)
		running = append(running, p)
	}
	cmd := testproc.Command("exit", "0")
	res, err := safeexec.Run(context.Background(), cmd, leaves)
	require.ErrorIs(t, err, safeexec.ErrTooManyLeft)
	assert.Equal(t, safeexec.CauseStartFailed, res.Cause)
	assert.Nil(t, cmd.Process)
	for _, p := range running {
		p.Kill()
	}
	for _, p := range running {
		_, _ = p.Wait()
	}
	_, err = safeexec.Run(context.Background(), testproc.Command("exit", "0"), leaves)
	require.NoError(t, err)
}

// The 64 pipes of 32 runs that leave a service each cost one goroutine.
func TestLeaveMany(t *testing.T) {
	testproc.NoLeaks(t)
	const runs = 32
	canary := testproc.NewCanary(t)
	before := runtime.NumGoroutine()
	var all safeexec.Result
	for range runs {
		cmd := exec.Command("sh", "-c", "sleep 600 & exit 0")
		cmd.ExtraFiles = append(cmd.ExtraFiles, canary.File())
		res, err := safeexec.Run(context.Background(), cmd, leaves)
		require.NoError(t, err)
		require.Len(t, res.LeftPipes, 2)
		all.LeftPipes = append(all.LeftPipes, res.LeftPipes...)
	}
	assert.Len(t, safeexec.LeftPipes(), 2*runs)
	if !testproc.IsDisabled("epoll") {
		// A timer's function that runs just now is a goroutine too.
		testproc.Wait(t, func() bool { return runtime.NumGoroutine() <= before+1 })
	}
	canary.CloseParent()
	release(t, &all, canary)
	assert.Empty(t, safeexec.LeftPipes())
}

func TestZeroLeftPipe(t *testing.T) {
	var p safeexec.LeftPipe
	p.Release()
	<-p.Done()
	assert.Zero(t, p.Discarded())
}
