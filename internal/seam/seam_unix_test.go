//go:build unix

package seam

import (
	"context"
	"os/exec"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestState(t *testing.T) {
	exited, err := State(7, Exited(3))
	require.NoError(t, err)
	assert.Equal(t, 7, exited.Pid())
	assert.Equal(t, 3, exited.ExitCode())
	assert.Equal(t, "exit status 3", exited.String())
	assert.Zero(t, exited.UserTime())
	assert.True(t, exited.Exited())

	signaled, err := State(7, Signaled(syscall.SIGKILL))
	require.NoError(t, err)
	assert.Equal(t, -1, signaled.ExitCode())
	assert.Equal(t, "signal: killed", (&exec.ExitError{ProcessState: signaled}).Error())

	good, err := State(7, Exited(0))
	require.NoError(t, err)
	assert.True(t, good.Success())
}

type nobody struct{ Fake }

// Asking a context that has no answer allocates nothing.
func TestFromAllocatesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	assert.Zero(t, testing.AllocsPerRun(100, func() { _ = From(ctx) }))
	assert.Nil(t, From(ctx))
	assert.Equal(t, nobody{}, From(With(ctx, nobody{})))
	assert.Nil(t, From(With(With(ctx, nobody{}), nil)))
}
