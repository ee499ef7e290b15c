package job

import (
	"context"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A process that cannot be looked at for want of descriptors is not taken to be dead.
func TestAwaitDeathWithoutDescriptors(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	p := proctree.Inspect(cmd.Process.Pid)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 0, Max: limit.Max}))
	err = awaitDeath(over, -1, p)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	require.ErrorIs(t, err, context.Canceled, "it is waited for")
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
	assert.NoError(t, awaitDeath(over, -1, p))
}

// A first process that ended before the store was closed is reaped, though the keeper has not seen it yet.
func TestEndedBeforeClose(t *testing.T) {
	s := open(t, t.TempDir())
	cmd := exec.Command("true")
	require.NoError(t, cmd.Start())
	p := proctree.Inspect(cmd.Process.Pid)
	k := newKeeper(&Job{s, "a"}, &record{Trace: proctree.Trace{PID: p.PID, Start: p.Start}}, nil)
	k.process = cmd.Process
	require.NoError(t, awaitDeath(t.Context(), -1, p))
	s.Close()
	exit, seen := k.awaitFirst()
	assert.Equal(t, &Exit{}, exit)
	assert.True(t, seen)
	k.release()
}
