//go:build linux

package containment_test

import (
	"context"
	"io/fs"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func limitsOf(t *testing.T, opts ...safeexec.Option) (map[string]procfs.Limit, error) {
	t.Helper()
	res, err := testrun.Run(t, exec.Command("cat", "/proc/self/limits"), opts...)
	list, _ := procfs.ParseLimits(res.Stdout.Bytes())
	limits := make(map[string]procfs.Limit)
	for _, l := range list {
		limits[l.Name] = l
	}
	return limits, err
}

// TestLimits sets each limit, at the stop.
func TestLimits(t *testing.T) {
	t.Parallel()
	limits, err := limitsOf(t, safeexec.WithFDProof(),
		safeexec.WithLimit(safeexec.LimitCPU, 100), safeexec.WithLimit(safeexec.LimitAddressSpace, 1<<30),
		safeexec.WithLimit(safeexec.LimitOpenFiles, 77), safeexec.WithLimit(safeexec.LimitProcesses, 5000),
		safeexec.WithLimit(safeexec.LimitFileSize, 1<<20), safeexec.WithLimit(safeexec.LimitCore, 1),
		safeexec.WithLimit(safeexec.LimitCore, 0))
	require.NoError(t, err)
	for name, n := range map[string]uint64{
		"Max cpu time": 100, "Max address space": 1 << 30, "Max open files": 77, "Max processes": 5000,
		"Max file size": 1 << 20, "Max core file size": 0,
	} {
		assert.Equal(t, procfs.Limit{Name: name, Soft: n, Hard: n}, limits[name])
	}
	res, err := testrun.Run(t, exec.Command("nice"), safeexec.WithFDProof(), safeexec.WithNice(7))
	require.NoError(t, err)
	assert.Equal(t, "7", res.Stdout.String())
}

// TestLimitsWithoutStop sets them on a command that runs already, and waits for them.
func TestLimitsWithoutStop(t *testing.T) {
	t.Parallel()
	p, _, _ := testrun.StartReady(t, context.Background(), testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded),
		safeexec.WithLimit(safeexec.LimitCore, 0), safeexec.WithLimit(safeexec.LimitOpenFiles, 99))
	list, err := procfs.ReadLimits(p.PID())
	require.NoError(t, err)
	assert.Contains(t, list, procfs.Limit{Name: "Max open files", Soft: 99, Hard: 99})
}

// TestLimitsRefused asks for more than there is to give.
func TestLimitsRefused(t *testing.T) {
	t.Parallel()
	raised := safeexec.WithLimit(safeexec.LimitOpenFiles, 1<<40) // above fs.nr_open, for root too
	res, err := testrun.Run(t, exec.Command("sleep", "600"), safeexec.WithFDProof(), raised)
	require.ErrorIs(t, err, safeexec.ErrLimits)
	require.ErrorIs(t, err, fs.ErrPermission)
	require.NotErrorIs(t, err, safeexec.ErrNotExecutable)
	assert.Zero(t, res.PID)
	assert.Equal(t, safeexec.CauseStartFailed, res.Cause)

	res, err = testrun.Run(t, exec.Command("sleep", "600"), raised)
	require.ErrorIs(t, err, safeexec.ErrLimits)
	assert.NotZero(t, res.PID)
	assert.Equal(t, safeexec.CauseLimits, res.Cause)
	assert.Equal(t, syscall.SIGTERM, res.Signal)
	assert.Equal(t, "limits", res.Cause.String())

	for name, opt := range map[string]safeexec.Option{
		"WithLimit": safeexec.WithLimit(0, 1), "WithNice": safeexec.WithNice(20),
	} {
		_, err = testrun.Run(t, exec.Command("true"), opt)
		var config *safeexec.ConfigError
		require.ErrorAs(t, err, &config)
		assert.Equal(t, name, config.Name)
	}
}
