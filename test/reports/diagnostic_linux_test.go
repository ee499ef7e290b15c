package reports_test

import (
	"context"
	"os"
	"os/exec"
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

func TestDiagnosticSignalCanBeHandled(t *testing.T) {
	_, err := safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(testrun.Bound),
		safeexec.WithDiagnosticSignal(syscall.SIGSTOP, testrun.Bound))
	var config *safeexec.ConfigError
	require.ErrorAs(t, err, &config)
	assert.Equal(t, "WithDiagnosticSignal", config.Name)
}

// The program that is stuck is the child of a shell, as it often is. Once both have died of the signal the
// tree is empty, so that the run waits neither for its time nor for the grace period.
func TestDiagnosticSignalDumpsGo(t *testing.T) {
	testproc.NoLeaks(t)
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command("sh", "-c", `"$0" hang; exit 7`, exe)
	cmd.Env = append(os.Environ(), testproc.Selector+"=hang")
	canary := testproc.WithCanary(t, cmd)
	p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded),
		safeexec.WithGracePeriod(testrun.Unbounded), safeexec.WithLimit(safeexec.LimitCore, 0),
		safeexec.WithDiagnosticSignal(syscall.SIGQUIT, testrun.Unbounded))
	res, err := p.Stop()
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Contains(t, res.Stderr.String(), "SIGQUIT: quit")
	assert.Contains(t, res.Stderr.String(), "goroutine 1")
	assert.Contains(t, res.Stderr.String(), "testproc.runHelper", "it may still be returning from the write that told it is ready")
	assert.Equal(t, syscall.SIGQUIT, res.Signal)
	assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
	assert.Positive(t, res.Times.Diagnostic)
	require.NotNil(t, res.Report, "the report is taken before the signal")
	assert.NotContains(t, res.Report.Verdict, "exited")
}

const pythonStuck = `
import faulthandler, signal, threading, time
faulthandler.register(signal.SIGUSR1, all_threads=True)
def stuck_in_a_thread():
    time.sleep(600)
threading.Thread(target=stuck_in_a_thread, daemon=True).start()
def stuck_in_main():
    print("ready 0", flush=True)
    time.sleep(600)
stuck_in_main()
`

// A dump that lets the program live costs all of the time for it; then the program is asked to end.
func TestDiagnosticSignalDumpsPython(t *testing.T) {
	testproc.NoLeaks(t)
	for wait := testrun.Soon; ; wait *= 2 {
		cmd := exec.Command(testproc.HasProgram(t, "python3"), "-X", "faulthandler", "-c", pythonStuck)
		canary := testproc.WithCanary(t, cmd)
		p, _, _ := testrun.StartReady(t, context.Background(), cmd, safeexec.WithTimeout(testrun.Unbounded),
			safeexec.WithGracePeriod(testrun.Unbounded), safeexec.WithDiagnosticSignal(syscall.SIGUSR1, wait))
		res, err := p.Stop()
		canary.WaitGone(t)
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.Equal(t, syscall.SIGTERM, res.Signal)
		assert.GreaterOrEqual(t, res.Times.Diagnostic, wait)
		if !strings.Contains(res.Stderr.String(), "in stuck_in_main") && wait < testrun.Bound/4 {
			continue // the machine is busy
		}
		assert.Contains(t, res.Stderr.String(), "in stuck_in_main")
		assert.Contains(t, res.Stderr.String(), "in stuck_in_a_thread")
		return
	}
}

// A stopped program writes its dump as well.
func TestDiagnosticSignalWakes(t *testing.T) {
	testproc.NoLeaks(t)
	p, pids, _ := testrun.StartReady(t, context.Background(), testproc.Command("stop-self"),
		safeexec.WithTimeout(testrun.Unbounded), safeexec.WithDiagnosticSignal(syscall.SIGQUIT, testrun.Unbounded))
	testproc.WaitState(t, pids[0], "T")
	res, err := p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Contains(t, res.Stderr.String(), "SIGQUIT: quit")
}

// Every bound brings it about, but for the output limit: a command that writes too much is not stuck.
func TestDiagnosticSignalAtEachBound(t *testing.T) {
	testproc.NoLeaks(t)
	canceled, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, test := range []struct {
		cause safeexec.Cause
		ctx   context.Context
		opts  []safeexec.Option
		after func(*safeexec.Process)
		sent  bool
	}{
		{safeexec.CauseTimeout, context.Background(), nil, func(p *safeexec.Process) { _ = p.SetTimeout(time.Millisecond) }, true},
		{safeexec.CauseIdle, context.Background(), []safeexec.Option{safeexec.WithIdleTimeout(testrun.Soon)}, nil, true},
		{safeexec.CauseCanceled, canceled, nil, func(*safeexec.Process) { cancel() }, true},
		{safeexec.CauseOutputLimit, context.Background(), []safeexec.Option{
			safeexec.WithOverflow(safeexec.OverflowStop), safeexec.WithOutputLimit(1)}, nil, false},
	} {
		p, err := safeexec.Start(test.ctx, testproc.Command("hang"), append([]safeexec.Option{
			safeexec.WithTimeout(testrun.Unbounded), safeexec.WithDiagnosticSignal(syscall.SIGQUIT, testrun.Unbounded)}, test.opts...)...)
		require.NoError(t, err)
		if test.after != nil {
			test.after(p)
		}
		res, _ := p.Wait()
		assert.Equal(t, test.cause, res.Cause)
		assert.Equal(t, test.sent, res.Times.Diagnostic > 0, "%v", test.cause)
	}
}

// What a command leaves behind that exited by itself is asked to end at once.
func TestDiagnosticSignalSparesTheRest(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Command("background")
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd, safeexec.WithLinger(0), safeexec.WithGracePeriod(testrun.Unbounded),
		safeexec.WithDiagnosticSignal(syscall.SIGQUIT, testrun.Unbounded))
	canary.WaitGone(t)
	require.NoError(t, err)
	assert.Len(t, res.Killed, 1)
	assert.Zero(t, res.Times.Diagnostic)
	assert.NotContains(t, res.Stderr.String(), "SIGQUIT")
}
