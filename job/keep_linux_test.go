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
