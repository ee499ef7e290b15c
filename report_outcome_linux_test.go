package safeexec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
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

// stuck waits until the report of a running process has a verdict that contains the text.
func stuck(t *testing.T, p *safeexec.Process, text string) safeexec.Report {
	t.Helper()
	ctx := testproc.Deadline(t)
	var last safeexec.Report
	for pause := time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 100*time.Millisecond) {
		report, err := p.Report()
		require.NoError(t, err)
		if strings.Contains(report.Verdict, text) {
			return report
		}
		last = report
		time.Sleep(pause)
	}
	t.Fatalf("the verdict never contained %q:\n%v", text, last)
	return last
}

// Whatever ends a run by force, the result says what it was stuck in, and so does the error, in a line
// that tells no secret.
func TestReportOfAnEndedRun(t *testing.T) {
	testproc.NoLeaks(t)
	for _, c := range []struct {
		name string
		is   error
		end  func(p *safeexec.Process, cancel func()) // nil: the idle timeout does
	}{
		{"timeout", safeexec.ErrTimeout, func(p *safeexec.Process, _ func()) { _ = p.SetTimeout(time.Millisecond) }},
		{"idle", safeexec.ErrIdle, nil},
		{"canceled", safeexec.ErrCanceled, func(_ *safeexec.Process, cancel func()) { cancel() }},
		{"stopped", safeexec.ErrStopped, func(p *safeexec.Process, _ func()) { p.Stop() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			const blocked = "sleep is blocked in clock_nanosleep"
			var p *safeexec.Process
			var res safeexec.Result
			var err error
			for idle := testrun.Soon; ; idle *= 2 {
				ctx, cancel := context.WithCancel(testproc.Deadline(t))
				defer cancel()
				cmd := exec.Command("bash", "-c", "sleep 600 & wait", "hunter2", "--password=hunter2")
				cmd.Env = append(os.Environ(), "PASSWORD=hunter2")
				canary := testproc.WithCanary(t, cmd)
				opts := []safeexec.Option{safeexec.WithReportBound(testrun.Bound)}
				if c.end == nil {
					opts = append(opts, safeexec.WithIdleTimeout(idle))
				}
				p, err = safeexec.Start(ctx, cmd, opts...)
				require.NoError(t, err)
				if c.end != nil {
					stuck(t, p, blocked)
					c.end(p, cancel)
				}
				res, err = p.Wait()
				canary.WaitGone(t)
				if c.end != nil || idle > testrun.Bound/4 || res.Report != nil && strings.Contains(res.Report.Verdict, blocked) {
					break // else it had not come that far, on a busy machine
				}
			}
			require.ErrorIs(t, err, c.is)
			require.NotNil(t, res.Report)
			assert.Equal(t, p.PID(), res.Report.PID)
			assert.Regexp(t, fmt.Sprintf(`^%d bash is blocked in wait4\(\d+\)[^;]*; \d+ sleep is blocked in clock_nanosleep\(\), (9m\d+s|10m0s) left$`,
				p.PID()), res.Report.Verdict)
			assert.True(t, res.Report.Found)
			require.Len(t, res.Report.Processes, 2)
			for _, process := range res.Report.Processes {
				assert.Equal(t, "S", process.State, "before the first signal")
				assert.Equal(t, p.PID(), process.SID)
			}
			assert.Positive(t, res.Times.Report)
			assert.LessOrEqual(t, res.Times.Start+res.Times.Run+res.Times.Report+res.Times.Stop+res.Times.Drain, res.Times.Total)

			var full *safeexec.Error
			require.ErrorAs(t, err, &full)
			assert.Same(t, res.Report, full.Report)
			assert.Contains(t, err.Error(), "; why: "+res.Report.Verdict)
			for _, text := range []string{err.Error(), res.Report.String(), fmt.Sprintf("%+v", res)} {
				assert.NotContains(t, text, "hunter2")
			}
			_, err = p.Report()
			assert.ErrorIs(t, err, os.ErrProcessDone)
		})
	}
}

// A command that ends by itself has none, and pays for none.
func TestNoReport(t *testing.T) {
	t.Parallel()
	for _, cmd := range []*exec.Cmd{
		testproc.Command("exit", "0"), testproc.Command("exit", "3"), testproc.Command("background"),
	} {
		res, _ := safeexec.Run(testproc.Deadline(t), cmd)
		assert.Nil(t, res.Report)
		assert.Zero(t, res.Times.Report)
	}
	res, err := safeexec.Run(testproc.Deadline(t), testproc.Command("spew-forever"),
		safeexec.WithOverflow(safeexec.OverflowStop), safeexec.WithGracePeriod(0))
	require.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.Nil(t, res.Report, "who writes too much is not stuck")
}

func TestReportNamesTheStopSignal(t *testing.T) {
	testproc.NoLeaks(t)
	p, _, _ := testrun.StartReady(t, testproc.Deadline(t), testproc.Command("stop-self"),
		safeexec.WithReportBound(testrun.Bound))
	stuck(t, p, "is stopped by SIGSTOP and waits for SIGCONT")
	res, err := p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Equal(t, syscall.SIGSTOP, res.Report.Processes[0].StopSignal)
	assert.Contains(t, res.Report.Verdict, "is stopped by SIGSTOP and waits for SIGCONT")
}

// A child that its parent does not reap is one of the tree, whether the parent waits for it or not. One of another
// session is in the report only if a process waits for it.
func TestReportNamesZombies(t *testing.T) {
	python := testproc.HasProgram(t, "python3")
	for name, test := range map[string]struct{ child, parent string }{
		"waited for":                  {"", "signal.pause()"},
		"forgotten":                   {"", "time.sleep(600)"},
		"waited for, another session": {"os.setsid()", "signal.pause()"},
	} {
		t.Run(name, func(t *testing.T) {
			testproc.NoLeaks(t)
			script := fmt.Sprintf(`import os, signal, time
pid = os.fork()
if pid == 0:
    %s
    os._exit(0)
os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
print("ready", pid, flush=True)
%s`, test.child, test.parent)
			p, pids, _ := testrun.StartReady(t, testproc.Deadline(t), exec.Command(python, "-c", script), safeexec.WithReportBound(testrun.Bound))
			testproc.WaitState(t, p.PID(), "S")
			res, err := p.Stop()
			require.ErrorIs(t, err, safeexec.ErrStopped)
			require.NotNil(t, res.Report)
			require.Len(t, res.Report.Processes, 2, "%v", res.Report)
			zombie := res.Report.Processes[1]
			assert.Equal(t, pids[0], zombie.PID)
			assert.Equal(t, "Z", zombie.State)
			assert.Equal(t, safeexec.RoleMember, zombie.Role)
		})
	}
}

// A process outside of the tree that has saved copies of both output pipes is named with the numbers
// of its descriptors, although it is not signaled.
func TestReportOfAHeldPipe(t *testing.T) {
	testproc.NoLeaks(t)
	stdin, release := io.Pipe()
	cmd := exec.Command("sh", "-c", "read x; echo start ok")
	cmd.Stdin = stdin
	p, err := safeexec.Start(testproc.Deadline(t), cmd, safeexec.WithDrainTimeout(testrun.Bound), safeexec.WithReportBound(testrun.Bound))
	require.NoError(t, err)
	stranger := testproc.HoldPipes(t, p.PID())
	testrun.Explained(t, stranger.Process.Pid, `sleep is blocked in clock_nanosleep`)
	require.NoError(t, release.Close())
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrPipeHeld)
	require.NotNil(t, res.Report)
	require.Len(t, res.Report.Processes, 1)
	holder := res.Report.Processes[0]
	assert.Equal(t, stranger.Process.Pid, holder.PID)
	assert.Equal(t, "sleep", holder.Name)
	assert.Equal(t, []int{12, 13}, holder.PipeFDs)
	assert.Equal(t, res.Holders[0].PID, holder.PID)
	assert.Regexp(t, `^\d+ sleep is blocked in clock_nanosleep`, res.Report.Verdict)
	assert.Contains(t, res.Report.String(), "12, 13")
	assert.Equal(t, safeexec.CauseExited, res.Cause)
}

// One that is there at the timeout is in the report of the timeout.
func TestReportOfATimeoutNamesHolders(t *testing.T) {
	testproc.NoLeaks(t)
	p, err := safeexec.Start(testproc.Deadline(t), exec.Command("sleep", "600"), safeexec.WithDrainTimeout(testrun.Bound),
		safeexec.WithLinger(0), safeexec.WithReportBound(testrun.Bound))
	require.NoError(t, err)
	stranger := testproc.HoldPipes(t, p.PID())
	res, err := p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	require.NotNil(t, res.Report)
	var holder *safeexec.ReportProcess
	for i := range res.Report.Processes {
		if h := &res.Report.Processes[i]; h.Role == safeexec.RoleHolder {
			holder = h
		}
	}
	require.NotNil(t, holder, "%v", res.Report)
	assert.Equal(t, stranger.Process.Pid, holder.PID)
	assert.Equal(t, []int{12, 13}, holder.PipeFDs)
	assert.Contains(t, res.Report.String(), "holds the output pipe: fd 12, 13")
}

func TestWithRedact(t *testing.T) {
	t.Parallel()
	commands := func(report *safeexec.Report) []string {
		require.NotEmpty(t, report.Processes)
		return report.Processes[0].Command
	}
	for _, c := range []struct {
		name string
		opt  safeexec.Option
		want []string
	}{
		{"none", nil, nil},
		{"nil", safeexec.WithRedact(nil), nil},
		{"secrets", safeexec.WithRedact(safeexec.RedactSecrets), []string{"sleep", "600"}},
		{"own", safeexec.WithRedact(func(c []string) []string { return c[:1] }), []string{"sleep"}},
		{"nothing", safeexec.WithRedact(func([]string) []string { return nil }), nil},
	} {
		p, err := safeexec.Start(testproc.Deadline(t), exec.Command("sleep", "600"), c.opt, safeexec.WithReportBound(testrun.Bound))
		require.NoError(t, err)
		report := stuck(t, p, "clock_nanosleep")
		for asked := 0; c.want != nil && commands(&report) == nil && asked < 100; asked++ { // a report takes a second at most
			report = stuck(t, p, "clock_nanosleep")
		}
		assert.Equal(t, c.want, commands(&report), c.name)
		if c.want != nil {
			assert.Contains(t, report.String(), "command: "+strings.Join(c.want, " ")+"\n", c.name)
		}
		res, _ := p.Stop()
		assert.Equal(t, c.want, commands(res.Report), c.name)
	}
}

func TestReportAsJSONAndLog(t *testing.T) {
	t.Parallel()
	pid := testproc.StartBystander(t, testproc.BystanderCommand(t, "sleep", "600"))
	report := testrun.Explained(t, pid, "nanosleep")
	text, err := json.Marshal(report)
	require.NoError(t, err)
	var back safeexec.Report
	require.NoError(t, json.Unmarshal(text, &back))
	assert.Equal(t, report.Verdict, back.Verdict)
	assert.Equal(t, report.Processes, back.Processes)

	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("stuck", "report", report)
	assert.Contains(t, log.String(), `report.verdict="`+report.Verdict+`"`)
	assert.Equal(t, 1, strings.Count(log.String(), "\n"))
}

// A command that writes without end is read while the report is taken: it is not stuck on us.
func TestReportOfABusyWriter(t *testing.T) {
	testproc.NoLeaks(t)
	res, err := testrun.Expires(t, testproc.Command("spew-forever"))
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	require.NotNil(t, res.Report)
	assert.False(t, res.Report.Deadlock, res.Report)
}
