//go:build linux

package safeexec_test

import (
	"math"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestBound(t *testing.T) {
	base, err := safeexec.Bound(safeexec.WithTimeout(time.Second))
	require.NoError(t, err)
	assert.Equal(t, time.Second+safeexec.DefaultGracePeriod+safeexec.DefaultLinger+safeexec.DefaultKillTimeout+
		safeexec.DefaultDrainTimeout+safeexec.ReportBound+6050*time.Millisecond, base, "as its comment says")
	for name, c := range map[string]struct {
		opt  safeexec.Option
		more time.Duration
	}{
		"timeout":     {safeexec.WithTimeout(3 * time.Second), 2 * time.Second},
		"grace":       {safeexec.WithGracePeriod(0), -safeexec.DefaultGracePeriod},
		"linger":      {safeexec.WithLinger(0), -safeexec.DefaultLinger},
		"kill":        {safeexec.WithKillTimeout(0), -safeexec.DefaultKillTimeout},
		"drain":       {safeexec.WithDrainTimeout(0), -safeexec.DefaultDrainTimeout},
		"report":      {safeexec.WithoutReport(), -safeexec.ReportBound},
		"diagnostic":  {safeexec.WithDiagnosticSignal(syscall.SIGQUIT, time.Minute), time.Minute + 1500*time.Millisecond},
		"redact":      {safeexec.WithRedact(safeexec.RedactSecrets), time.Second},
		"containment": {safeexec.WithContainment(safeexec.ContainmentExact), 100 * time.Millisecond},
	} {
		got, err := safeexec.Bound(safeexec.WithTimeout(time.Second), c.opt)
		require.NoError(t, err, name)
		assert.Equal(t, base+c.more, got, name)
	}
	long, err := safeexec.Bound(safeexec.WithTimeout(math.MaxInt64), safeexec.WithLinger(math.MaxInt64))
	require.NoError(t, err)
	assert.Equal(t, time.Duration(math.MaxInt64), long)
}

func TestBoundIsRefused(t *testing.T) {
	_, err := safeexec.Bound()
	require.ErrorIs(t, err, safeexec.ErrNoTimeout)
	_, err = safeexec.Bound(safeexec.WithTimeout(time.Second), safeexec.WithLinger(-1))
	var config *safeexec.ConfigError
	require.ErrorAs(t, err, &config)
	assert.Equal(t, "WithLinger", config.Name)
}

func TestTimeoutCode(t *testing.T) {
	t.Parallel()
	res, err := testrun.Expires(t, exec.Command("sleep", "600"))
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.Equal(t, 128+int(syscall.SIGTERM), res.ShellCode())
	assert.Equal(t, 124, res.TimeoutCode())
	res, _ = testrun.Run(t, exec.Command("sh", "-c", "exit 3"))
	assert.Equal(t, 3, res.TimeoutCode())
	res, err = safeexec.Run(t.Context(), exec.Command("true"))
	require.ErrorIs(t, err, safeexec.ErrNoTimeout)
	assert.Equal(t, -1, res.ShellCode())
	assert.Equal(t, 125, res.TimeoutCode())
}

func TestWithoutReport(t *testing.T) {
	t.Parallel()
	res, err := testrun.Expires(t, exec.Command("sleep", "600"), safeexec.WithoutReport())
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.Nil(t, res.Report)
}

// The command writes once and then sleeps: only the Writer's error can end the run.
func TestStopOnWriteError(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "echo; sleep 600")
	cmd.Stdout = &refusingWriter{}
	res, err := testrun.Run(t, cmd, safeexec.WithStopOnWriteError())
	require.ErrorIs(t, err, safeexec.ErrWriterFailed)
	require.ErrorIs(t, err, errRefused)
	require.NotErrorIs(t, err, safeexec.ErrTimeout)
	assert.Equal(t, safeexec.CauseWriterFailed, res.Cause)
	assert.ErrorIs(t, res.Stdout.Err, errRefused)
}
