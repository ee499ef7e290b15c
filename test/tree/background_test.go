//go:build linux

package tree_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

var waits = safeexec.WithBackground(safeexec.BackgroundWait)

func TestBackgroundIsChecked(t *testing.T) {
	for _, policy := range []safeexec.Background{-1, safeexec.BackgroundLeave + 1} {
		cmd := testproc.Command("exit", "0")
		_, err := safeexec.Run(testproc.Deadline(t), cmd, safeexec.WithBackground(policy))
		var config *safeexec.ConfigError
		require.ErrorAs(t, err, &config)
		assert.Equal(t, "WithBackground", config.Name)
		assert.Nil(t, cmd.Process)
	}
}

// What the command left is waited for far beyond the linger, and the status is the command's.
func TestWaitForBackground(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		script, output string
		code           int
	}{
		{"(sleep 0.3; echo late) & exit 3", "late", 3},
		{"(sleep 0.3; echo late) & exit 0", "late", 0},
		{"echo now; (sleep 0.2; echo late; (sleep 0.2; echo later) & exit 0) & exit 0", "now\nlate\nlater", 0},
		{"(sleep 0.3; exit 7) >/dev/null 2>&1 & exit 0", "", 0},
		{"(sleep 0.2; echo late) & kill -KILL $$", "late", -1},
		{"exit 0", "", 0},
		{"exit 5", "", 5},
	} {
		t.Run(test.script, func(t *testing.T) {
			t.Parallel()
			cmd := testproc.Shell(test.script)
			canary := testproc.WithCanary(t, cmd)
			res, err := safeexec.Run(testproc.Deadline(t), cmd, waits, safeexec.WithLinger(0))
			canary.WaitGone(t)
			assert.Equal(t, test.output, res.Stdout.String())
			assert.Equal(t, test.code, res.ExitCode)
			assert.Equal(t, safeexec.CauseExited, res.Cause)
			assert.Empty(t, res.Killed)
			assert.Empty(t, res.Left)
			if test.code == 0 {
				require.NoError(t, err)
				assert.True(t, res.Success())
				return
			}
			_, plain := err.(*exec.ExitError) //nolint:errorlint // exactly that
			assert.True(t, plain, "%v", err)
		})
	}
}

// More members than are held by a pidfd, of which the rest has to be looked at.
func TestWaitForManyInBackground(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := testproc.Shell("i=0; while [ $i -lt 90 ]; do sleep 0.$((i % 9 + 1)) & i=$((i+1)); done")
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd, waits)
	require.NoError(t, err)
	canary.WaitGone(t)
	assert.Empty(t, res.Killed)
	// From the start: who is held up after the fork comes to the next phase late.
	assert.GreaterOrEqual(t, res.Times.Start+res.Times.Run, 900*time.Millisecond)
}

// The table of WithBackground: what ends the tree is the cause, and the status is the command's own.
func TestWaitIsBounded(t *testing.T) {
	t.Parallel()
	why := errors.New("because")
	for _, test := range []struct {
		name  string
		opt   func(time.Duration) safeexec.Option // is doubled until the command exits in that time
		end   func(p *safeexec.Process, cancel context.CancelCauseFunc)
		cause safeexec.Cause
		err   error
	}{
		{"timeout", safeexec.WithTimeout, nil, safeexec.CauseTimeout, safeexec.ErrTimeout},
		{"idle", safeexec.WithIdleTimeout, nil, safeexec.CauseIdle, safeexec.ErrIdle},
		{"cancel", nil, func(_ *safeexec.Process, cancel context.CancelCauseFunc) { cancel(why) },
			safeexec.CauseCanceled, safeexec.ErrCanceled},
		{"stop", nil, func(p *safeexec.Process, _ context.CancelCauseFunc) { _, _ = p.Stop() },
			safeexec.CauseStopped, safeexec.ErrStopped},
	} {
		for _, code := range []int{0, 3} {
			name := test.name + map[int]string{0: "", 3: ", failed"}[code]
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var res safeexec.Result
				var err error
				for d := 2 * testrun.Soon; ; d *= 2 {
					cmd := testproc.Shell("sleep 600 & exit $0")
					cmd.Args = append(cmd.Args, map[int]string{0: "0", 3: "3"}[code])
					canary := testproc.WithCanary(t, cmd)
					ctx, cancel := context.WithCancelCause(context.Background())
					defer cancel(nil)
					opts := []safeexec.Option{safeexec.WithTimeout(testrun.Unbounded), waits}
					if test.opt != nil {
						opts = append(opts, test.opt(d))
					}
					var p *safeexec.Process
					if p, err = safeexec.Start(ctx, cmd, opts...); err == nil {
						if test.end != nil {
							testproc.WaitState(t, p.PID(), "Z\x00")
							test.end(p, cancel)
						}
						res, err = p.Wait()
					}
					canary.WaitGone(t)
					if test.opt == nil || res.PID != 0 && res.Signal == 0 || d > testrun.Bound {
						break
					}
				}
				require.ErrorIs(t, err, test.err)
				assert.Equal(t, test.cause, res.Cause)
				assert.Equal(t, code, res.ExitCode)
				assert.Zero(t, res.Signal)
				assert.False(t, res.Success())
				require.Len(t, res.Killed, 1)
				var exit *exec.ExitError
				assert.Equal(t, code != 0, errors.As(err, &exit))
				require.NotNil(t, res.Report, "the tree was stuck")
				assert.Equal(t, res.Killed[0].PID, res.Report.PID, "and who of it is asked about, not the dead leader")
				if len(res.Report.Processes) > 0 { // there was time
					assert.Equal(t, safeexec.RoleRoot, res.Report.Processes[0].Role)
					assert.Equal(t, res.Report.PID, res.Report.Processes[0].PID)
				}
				if test.name == "cancel" {
					require.ErrorIs(t, err, why)
				}
			})
		}
	}
}

func TestWaitIsBoundedByTheOutputLimit(t *testing.T) {
	testproc.NoLeaks(t)
	helper := testproc.Command("spew-forever")
	cmd := exec.Command("sh", "-c", `"$0" spew-forever & exit 0`, helper.Path)
	cmd.Env = helper.Env
	canary := testproc.WithCanary(t, cmd)
	res, err := safeexec.Run(testproc.Deadline(t), cmd, waits, safeexec.WithOverflow(safeexec.OverflowStop),
		safeexec.WithOutputLimit(1<<20))
	canary.WaitGone(t)
	require.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.Equal(t, safeexec.CauseOutputLimit, res.Cause)
	assert.Zero(t, res.ExitCode)
	assert.Len(t, res.Stdout.Bytes(), 1<<20)
}

// Output of the background is no silence.
func TestWaitIsNotIdleWhileOutputMoves(t *testing.T) {
	t.Parallel()
	res, err := testrun.Talks(t, func(pause string) *exec.Cmd {
		return testproc.Shell("(for i in 1 2 3 4 5 6; do sleep " + pause + "; echo $i; done) & exit 0")
	}, waits)
	require.NoError(t, err)
	assert.Equal(t, "1\n2\n3\n4\n5\n6", res.Stdout.String())
	assert.Greater(t, res.Times.Start+res.Times.Run, 2*testrun.Soon, "than the idle timeout")
}

// Standard input goes on to those that wait for it.
func TestWaitFeedsTheBackground(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	cmd := testproc.Shell("exec 3<&0; cat <&3 & exit 0")
	cmd.Stdin = struct{ *os.File }{r} // no *os.File, so that it passes through
	p, err := safeexec.Start(testproc.Deadline(t), cmd, waits)
	require.NoError(t, err)
	testproc.WaitState(t, p.PID(), "Z")
	_, err = w.WriteString("late input\n")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	res, err := p.Wait()
	require.NoError(t, err)
	assert.Equal(t, "late input", res.Stdout.String())
}

// A signal to the zombie that the leader is meanwhile would be none, and says so.
func TestSignalWhileWaiting(t *testing.T) {
	t.Parallel()
	p, err := safeexec.Start(testproc.Deadline(t), testproc.Shell("sleep 600 & kill -HUP $$"), waits)
	require.NoError(t, err)
	testproc.WaitState(t, p.PID(), "Z")
	testproc.Wait(t, func() bool { return errors.Is(p.Signal(syscall.SIGHUP), os.ErrProcessDone) })
	select {
	case <-p.Done():
		t.Fatal("done while the background lives")
	default:
	}
	_, err = p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)
}

func TestWaitWithOutput(t *testing.T) {
	t.Parallel()
	out, err := safeexec.CombinedOutput(testproc.Deadline(t), testproc.Shell("echo now; (sleep 0.2; echo late >&2) &"), waits, safeexec.WithFDProof())
	if errors.Is(err, safeexec.ErrProofRefused) {
		t.Skip(err)
	}
	require.NoError(t, err)
	assert.Equal(t, "now\nlate\n", string(out))
}
