//go:build linux

package safeexec_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// TestConformance runs the situations in which os/exec fails, with os/exec, to see that it still
// does, and with safeexec. The times that -v prints are those of the README.
func TestConformance(t *testing.T) {
	for _, row := range []struct {
		name             string
		osExec, safeexec func(t *testing.T)
	}{
		{"01_background_holds_output", osBackgroundHoldsOutput, backgroundHoldsOutput},
		{"02_cancel_is_not_called", osCancelNotCalled, cancelNotCalled},
		{"03_blocked_reader", osBlockedReader, blockedReader},
		{"04_blocked_writer", osBlockedWriter, blockedWriter},
		{"05_exit_code_and_held_pipe", osExitAndHeldPipe, exitAndHeldPipe},
		{"06_slow_sink", osSlowSink, slowSink},
		{"07_deadline_in_the_error", osDeadlineInError, deadlineInError},
		{"08_stopped_child", osStoppedChild, stoppedChild},
		{"09_inherited_descriptors", osInheritedDescriptors, inheritedDescriptors},
		{"10_capping_writer", osCappingWriter, cappingWriter},
		{"11_hung_file_system", osHungFileSystem, hungFileSystem},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			t.Run("os_exec", func(t *testing.T) { t.Parallel(); row.osExec(t) })
			t.Run("safeexec", func(t *testing.T) { t.Parallel(); row.safeexec(t) })
		})
	}
}

// patience is how long after its timeout os/exec must still be blocked to count as blocked for ever.
const patience = time.Second

// An attempt is a call that may not return.
type attempt struct {
	began time.Time
	done  chan error // receives the call's error once
}

func try(call func() error) *attempt {
	a := &attempt{began: time.Now(), done: make(chan error, 1)}
	go func() { a.done <- call() }() // ends with the call, which the test sees to
	return a
}

// stillBlocked asserts that the call has not returned patience from now. Then it calls release until
// the call has returned.
func (a *attempt) stillBlocked(t *testing.T, release func()) {
	t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-a.done:
		t.Fatalf("returned after %v: %v", since(a.began), err)
	case <-timer.C:
		t.Logf("still blocked after %v, until the test released it", since(a.began))
	}
	for {
		release()
		select {
		case <-a.done:
			return
		case <-testproc.Deadline(t).Done():
			t.Fatal("not released")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// wait waits for a call that must return.
func (a *attempt) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.done:
		t.Logf("returned after %v: %v", since(a.began), err)
		return err
	case <-testproc.Deadline(t).Done():
		t.Fatal("not returned")
		return nil
	}
}

func since(began time.Time) time.Duration { return time.Since(began).Round(time.Millisecond) }

// killHolders kills the holders of the canary. The handle that FindProcess opens before the second look
// pins a number.
func killHolders(canary *testproc.Canary) {
	for _, pid := range canary.Holders() {
		p, err := os.FindProcess(pid)
		if err != nil {
			continue
		}
		if slices.Contains(canary.Holders(), pid) {
			p.Kill()
		}
		p.Release()
	}
}

const backgroundJob = "sleep 61 & echo hi"

func osBackgroundHoldsOutput(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", backgroundJob)
	canary := testproc.WithCanary(t, cmd)
	cmd.Stdout = new(bytes.Buffer)
	require.NoError(t, cmd.Start())
	testproc.WaitState(t, cmd.Process.Pid, "Z")
	a := try(cmd.Wait)
	cancel()
	a.stillBlocked(t, func() { killHolders(canary) })
}

func backgroundHoldsOutput(t *testing.T) {
	cmd := exec.Command("sh", "-c", backgroundJob)
	canary := testproc.WithCanary(t, cmd)
	var out []byte
	a := try(func() (err error) {
		out, err = safeexec.CombinedOutput(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
		return err
	})
	assert.NoError(t, a.wait(t))
	assert.Equal(t, "hi\n", string(out))
	canary.WaitGone(t)
	assert.Less(t, time.Since(a.began), testrun.Bound, "it returned long before its deadline")
}

// careful is what people who know os/exec well write.
func careful(ctx context.Context, canceled *bool, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		*canceled = true
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	cmd.WaitDelay = testrun.Soon
	return cmd
}

func osCancelNotCalled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testrun.Bound)
	defer cancel()
	var canceled bool
	cmd := careful(ctx, &canceled, "sh", "-c", backgroundJob)
	canary := testproc.WithCanary(t, cmd)
	a := try(func() error { _, err := cmd.CombinedOutput(); return err })
	assert.ErrorIs(t, a.wait(t), exec.ErrWaitDelay)
	canary.CloseParent()
	assert.False(t, canceled)
	assert.True(t, canary.Alive())
}

func cancelNotCalled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testrun.Bound)
	defer cancel()
	var canceled bool
	cmd := careful(ctx, &canceled, "sh", "-c", backgroundJob)
	canary := testproc.WithCanary(t, cmd)
	res, err := testrun.Run(t, cmd)
	assert.NoError(t, err)
	assert.False(t, canceled, "it is not needed")
	assert.Len(t, res.Killed, 1)
	canary.WaitGone(t)
}

func osBlockedReader(t *testing.T) {
	reader := testproc.NewStalledReader(nil)
	defer reader.Release()
	cmd := exec.CommandContext(t.Context(), "true")
	cmd.Stdin, cmd.WaitDelay = reader, testrun.Soon
	try(cmd.Run).stillBlocked(t, reader.Release)
}

func blockedReader(t *testing.T) {
	reader := testproc.NewStalledReader(nil)
	defer reader.Release()
	cmd := exec.Command("cat", "/dev/fd/3")
	cmd.Stdin = reader
	opensOnce(t, cmd, reader.Entered())
	res, err := testrun.Run(t, cmd, safeexec.WithDrainTimeout(testrun.Soon))
	assert.ErrorIs(t, err, safeexec.ErrReaderStuck)
	assert.Equal(t, []safeexec.Abandoned{safeexec.AbandonedStdin}, res.Abandoned)
	assert.True(t, res.Success())
}

// opensOnce gives cmd a descriptor 3 whose end comes once something has happened: it ends without a look
// at its standard input, but not before a call of Read is under way.
func opensOnce(t *testing.T, cmd *exec.Cmd, happened <-chan struct{}) {
	t.Helper()
	gate, opener, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { gate.Close() })
	cmd.ExtraFiles = []*os.File{gate}
	go func() {
		defer opener.Close()
		select {
		case <-happened:
		case <-t.Context().Done():
		}
	}()
}

func osBlockedWriter(t *testing.T) {
	writer := testproc.NewStalledWriter()
	defer writer.Release()
	cmd := exec.CommandContext(t.Context(), "echo", "hi")
	cmd.Stdout, cmd.WaitDelay = writer, testrun.Soon
	try(cmd.Run).stillBlocked(t, writer.Release)
}

func blockedWriter(t *testing.T) {
	writer := testproc.NewStalledWriter()
	defer writer.Release()
	cmd := exec.Command("echo", "hi")
	cmd.Stdout = writer
	res, err := testrun.Run(t, cmd, safeexec.WithDrainTimeout(testrun.Soon))
	assert.ErrorIs(t, err, safeexec.ErrWriterStuck)
	assert.Equal(t, []safeexec.Abandoned{safeexec.AbandonedStdout}, res.Abandoned)
	assert.Equal(t, safeexec.Stream{Total: 3, Dropped: 3}, res.Stdout)
	assert.True(t, res.Success())
}

func osExitAndHeldPipe(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sleep 61 & exit 3")
	testproc.WithCanary(t, cmd)
	cmd.Stdout, cmd.WaitDelay = new(bytes.Buffer), testrun.Soon
	err := try(cmd.Run).wait(t)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 3, exit.ExitCode())
	assert.NotErrorIs(t, err, exec.ErrWaitDelay)
}

func exitAndHeldPipe(t *testing.T) {
	job := exec.Command("sh", "-c", "sleep 61 & exit 3")
	canary := testproc.WithCanary(t, job)
	_, err := testrun.Run(t, job)
	assert.IsType(t, (*exec.ExitError)(nil), err, "there is nothing else to say")
	canary.WaitGone(t)

	// A stranger, which no rule allows to kill, is this process.
	p, release := startHeld(t, "exit 3", safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Bound))
	defer release()
	a := try(func() error { _, err := p.Wait(); return err })
	err = a.wait(t)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 3, exit.ExitCode())
	assert.ErrorIs(t, err, exec.ErrWaitDelay)
	assert.ErrorIs(t, err, safeexec.ErrPipeHeld)
}

// startHeld starts a shell script whose standard output this process holds as well.
func startHeld(t *testing.T, script string, opts ...safeexec.Option) (p *safeexec.Process, release func()) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "read -r line; "+script)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	p, err = safeexec.Start(t.Context(), cmd, opts...)
	require.NoError(t, err)
	held, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", p.PID()), os.O_WRONLY, 0)
	require.NoError(t, err)
	require.NoError(t, stdin.Close())
	return p, func() { held.Close() }
}

func osDeadlineInError(t *testing.T) {
	for timeout := testrun.Soon; ; timeout *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		cmd := exec.CommandContext(ctx, "sleep", "61")
		err := try(cmd.Run).wait(t)
		cancel()
		if cmd.Process == nil && timeout < testrun.Bound { // the machine is busy
			continue
		}
		assert.Error(t, err)
		assert.NotErrorIs(t, err, context.DeadlineExceeded)
		return
	}
}

func deadlineInError(t *testing.T) {
	var res safeexec.Result
	var err error
	for timeout := testrun.Soon; res.PID == 0 && timeout < testrun.Bound; timeout *= 2 { // on a busy machine it is not started in time
		res, err = testrun.Run(t, exec.Command("sleep", "61"), safeexec.WithTimeout(timeout))
	}
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	var exit *exec.ExitError
	assert.ErrorAs(t, err, &exit)
	assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
	assert.GreaterOrEqual(t, res.Times.Total, testrun.Soon)
}

func osStoppedChild(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", "kill -STOP $$")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	require.NoError(t, cmd.Start())
	testproc.WaitState(t, cmd.Process.Pid, "T")
	cancel()
	try(cmd.Wait).stillBlocked(t, func() { cmd.Process.Kill() })
}

func stoppedChild(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := safeexec.Start(ctx, exec.Command("sh", "-c", "kill -STOP $$"),
		safeexec.WithTimeout(testrun.Bound), safeexec.WithGracePeriod(testrun.Bound))
	require.NoError(t, err)
	testproc.WaitState(t, p.PID(), "T")
	a := try(func() error { _, err := p.Wait(); return err })
	cancel()
	assert.ErrorIs(t, a.wait(t), context.Canceled)
	res, _ := p.Wait()
	assert.Equal(t, syscall.SIGTERM, res.Signal, "continued, it heard the first signal")
}

// sinkSize fits into a pipe, so that the command ends without being read.
const sinkSize = 60_000

// lateSink is a Writer that does not return before the command is gone, and then takes longer than soon.
func lateSink(pid <-chan int, gone func(pid int) bool) *testproc.SlowWriter {
	of := 0
	return testproc.NewSlowWriter(func() {
		if of == 0 {
			of = <-pid
		}
		for !gone(of) {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(2 * testrun.Soon)
	})
}

func osSlowSink(t *testing.T) {
	pid := make(chan int, 1)
	sink := lateSink(pid, func(pid int) bool { return testproc.State(pid) == 0 }) // reaped: the delay begins
	cmd := exec.Command("head", "-c", "60000", "/dev/zero")
	cmd.Stdout, cmd.WaitDelay = sink, testrun.Soon
	require.NoError(t, cmd.Start())
	pid <- cmd.Process.Pid
	assert.ErrorIs(t, try(cmd.Wait).wait(t), exec.ErrWaitDelay)
	t.Logf("%d of %d bytes", len(sink.Bytes()), sinkSize)
	assert.Less(t, len(sink.Bytes()), sinkSize)
}

func slowSink(t *testing.T) {
	pid := make(chan int, 1)
	sink := lateSink(pid, testproc.Dead)
	cmd := exec.Command("head", "-c", "60000", "/dev/zero")
	cmd.Stdout = sink
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Bound))
	require.NoError(t, err)
	pid <- p.PID()
	assert.NoError(t, try(func() error { _, err := p.Wait(); return err }).wait(t))
	t.Logf("%d of %d bytes", len(sink.Bytes()), sinkSize)
	assert.Len(t, sink.Bytes(), sinkSize)
}
