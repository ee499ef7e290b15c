//go:build linux

package tree_test

import (
	"context"
	"errors"
	"io"
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

func TestKill(t *testing.T) {
	t.Parallel()
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		p, _ := testrun.StartStubborn(t, t.Context())
		p.Kill()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		testrun.Killed(t, res, safeexec.CauseStopped)
		assert.Nil(t, res.Report)
	})
	t.Run("in the grace period of a Stop", func(t *testing.T) {
		t.Parallel()
		p, out := testrun.StartStubborn(t, t.Context())
		go func() { _, _ = p.Stop() }()
		require.Equal(t, "told", testproc.ReadLine(t, out))
		p.Kill()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		testrun.Killed(t, res, safeexec.CauseStopped)
	})
	t.Run("in the grace period of a timeout", func(t *testing.T) {
		t.Parallel()
		p, out := testrun.StartStubborn(t, t.Context())
		require.NoError(t, p.SetTimeout(time.Millisecond))
		require.Equal(t, "told", testproc.ReadLine(t, out))
		p.Kill()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrTimeout)
		require.NotErrorIs(t, err, safeexec.ErrStopped)
		testrun.Killed(t, res, safeexec.CauseTimeout)
	})
	t.Run("while the diagnostic signal is answered", func(t *testing.T) {
		t.Parallel()
		p, out := testrun.StartStubborn(t, t.Context(), safeexec.WithDiagnosticSignal(syscall.SIGTERM, testrun.Unbounded))
		go func() { _, _ = p.Stop() }()
		require.Equal(t, "told", testproc.ReadLine(t, out))
		p.Kill()
		res, _ := p.Wait()
		testrun.Killed(t, res, safeexec.CauseStopped)
	})
	t.Run("while the background is waited for", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("sh", "-c", "("+testrun.Stubborn+") & read line")
		in, w := io.Pipe()
		defer w.Close()
		cmd.Stdin = in
		p, _, _ := testrun.StartTold(t, cmd, safeexec.WithBackground(safeexec.BackgroundWait), safeexec.WithGracePeriod(testrun.Unbounded))
		_, err := w.Write([]byte("end\n"))
		require.NoError(t, err)
		testproc.WaitState(t, p.PID(), "Z")
		p.Kill()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.Equal(t, safeexec.CauseStopped, res.Cause)
		assert.Zero(t, res.ExitCode, "the command's own")
		assert.NotEmpty(t, res.Killed)
	})
	t.Run("without a grace period before it", func(t *testing.T) {
		t.Parallel()
		cmd := testproc.Command("fork", "9")
		p, ready, _ := testrun.StartTold(t, cmd)
		born := testproc.Ready(t, strings.NewReader(ready+"\n"))[1:]
		p.Kill()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.Subset(t, testrun.PIDs(res.Killed), born, "all that the group's signal has reached")
	})
	t.Run("ended", func(t *testing.T) {
		t.Parallel()
		p, err := safeexec.Start(t.Context(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
		require.NoError(t, err)
		<-p.Done()
		p.Kill()
		res, err := p.Wait()
		require.NoError(t, err)
		assert.Equal(t, safeexec.CauseExited, res.Cause)
	})
	t.Run("at any moment", func(t *testing.T) {
		t.Parallel()
		for range testproc.Rounds(30) {
			p, err := safeexec.Start(t.Context(), exec.Command("sh", "-c", "sleep 600 & true"), safeexec.WithTimeout(testrun.Bound))
			require.NoError(t, err)
			go p.Kill()
			res, err := p.Wait()
			if res.Cause == safeexec.CauseExited {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, safeexec.ErrStopped)
			}
		}
	})
}

func TestWithForce(t *testing.T) {
	t.Parallel()
	t.Run("in the grace period", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		force, kill := context.WithCancel(t.Context())
		p, out := testrun.StartStubborn(t, ctx, safeexec.WithForce(t.Context()), safeexec.WithForce(force))
		cancel()
		require.Equal(t, "told", testproc.ReadLine(t, out))
		kill()
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrCanceled)
		testrun.Killed(t, res, safeexec.CauseCanceled)
	})
	t.Run("before", func(t *testing.T) {
		t.Parallel()
		force, kill := context.WithCancel(t.Context())
		kill()
		p, _ := testrun.StartStubborn(t, t.Context(), safeexec.WithForce(force))
		require.NoError(t, p.SetTimeout(testrun.Unbounded), "it ends no run by itself")
		res, err := p.Stop()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		testrun.Killed(t, res, safeexec.CauseStopped)
		assert.Nil(t, res.Report)
	})
	t.Run("nil", func(t *testing.T) {
		var config *safeexec.ConfigError
		var none context.Context
		_, err := safeexec.Run(t.Context(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound), safeexec.WithForce(none))
		require.ErrorAs(t, err, &config)
	})
}

func TestSetTimeout(t *testing.T) {
	t.Parallel()
	t.Run("less", func(t *testing.T) {
		t.Parallel()
		p, err := safeexec.Start(t.Context(), testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded))
		require.NoError(t, err)
		require.NoError(t, p.SetTimeout(time.Minute))
		require.NoError(t, p.SetTimeout(20*time.Millisecond), "the last one counts")
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrTimeout)
		assert.Equal(t, safeexec.CauseTimeout, res.Cause)
		assert.GreaterOrEqual(t, res.Times.Run+res.Times.Start, 20*time.Millisecond)
	})
	t.Run("more", func(t *testing.T) {
		t.Parallel()
		for range testproc.Rounds(20) { // whichever comes first is what happens
			p, err := safeexec.Start(t.Context(), testproc.Command("hang"), safeexec.WithTimeout(30*time.Millisecond))
			if errors.Is(err, safeexec.ErrTimeout) {
				continue // the machine is busy
			}
			require.NoError(t, err)
			time.Sleep(25 * time.Millisecond)
			if err := p.SetTimeout(testrun.Unbounded); err != nil {
				require.ErrorIs(t, err, os.ErrProcessDone)
				_, err = p.Wait()
				require.ErrorIs(t, err, safeexec.ErrTimeout)
				continue
			}
			_, err = p.Stop()
			require.ErrorIs(t, err, safeexec.ErrStopped)
		}
	})
	t.Run("the context stands", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithTimeout(t.Context(), testrun.Soon)
		defer cancel()
		p, err := safeexec.Start(ctx, testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded))
		if err == nil { // or the machine is busy
			_ = p.SetTimeout(testrun.Unbounded)
			_, err = p.Wait()
		}
		require.ErrorIs(t, err, safeexec.ErrTimeout)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	})
	t.Run("late", func(t *testing.T) {
		t.Parallel()
		p, out := testrun.StartStubborn(t, t.Context())
		go func() { _, _ = p.Stop() }()
		require.Equal(t, "told", testproc.ReadLine(t, out))
		require.ErrorIs(t, p.SetTimeout(testrun.Unbounded), os.ErrProcessDone, "in the grace period")
		p.Kill()
		<-p.Done()
		require.ErrorIs(t, p.SetTimeout(testrun.Unbounded), os.ErrProcessDone, "ended")
	})
	t.Run("while the background is waited for", func(t *testing.T) {
		t.Parallel()
		p, _, _ := testrun.StartTold(t, exec.Command("sh", "-c", "sleep 600 & echo ready"),
			safeexec.WithBackground(safeexec.BackgroundWait))
		testproc.WaitState(t, p.PID(), "Z")
		require.NoError(t, p.SetTimeout(time.Millisecond))
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrTimeout)
		assert.Zero(t, res.ExitCode)
		require.ErrorIs(t, p.SetTimeout(time.Minute), os.ErrProcessDone)
	})
	t.Run("not positive", func(t *testing.T) {
		p, err := safeexec.Start(t.Context(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
		require.NoError(t, err)
		var config *safeexec.ConfigError
		require.ErrorAs(t, p.SetTimeout(0), &config)
		require.ErrorAs(t, p.SetTimeout(-1), &config)
		_, err = p.Wait()
		require.NoError(t, err)
	})
}

// What comes at the same time ends in one of the ways that each alone would.
func TestControlsAtOnce(t *testing.T) {
	t.Parallel()
	for i := range testproc.Rounds(40) {
		ctx, cancel := context.WithCancel(t.Context())
		p, err := safeexec.Start(ctx, exec.Command("sh", "-c", "sleep 0.01"), safeexec.WithTimeout(15*time.Millisecond))
		if errors.Is(err, safeexec.ErrTimeout) {
			cancel()
			continue // the machine is busy
		}
		require.NoError(t, err)
		var set error
		done := make(chan struct{})
		go func() { defer close(done); set = p.SetTimeout(time.Duration(i+1) * time.Millisecond) }()
		go cancel()
		go p.Kill()
		go func() { _, _ = p.Stop() }()
		res, err := p.Wait()
		<-done
		switch res.Cause {
		case safeexec.CauseExited:
			require.NoError(t, err)
		case safeexec.CauseTimeout:
			require.ErrorIs(t, err, safeexec.ErrTimeout)
		case safeexec.CauseCanceled:
			require.ErrorIs(t, err, safeexec.ErrCanceled)
		case safeexec.CauseStopped:
			require.ErrorIs(t, err, safeexec.ErrStopped)
		default:
			t.Fatal(res.Cause, err)
		}
		assert.True(t, set == nil || errors.Is(set, os.ErrProcessDone), set)
	}
}
