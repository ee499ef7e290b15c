package sys

import (
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestExitOf asks for the status of a process that another has reaped.
func TestExitOf(t *testing.T) {
	if !Enabled(Pidfd) {
		t.Skip("needs a pidfd")
	}
	cmd := exec.Command("sh", "-c", "exit 7")
	require.NoError(t, cmd.Start())
	fd, err := PidfdOpen(cmd.Process.Pid)
	require.NoError(t, err)
	defer Close(fd)
	require.NoError(t, WaitExit(cmd.Process.Pid))
	_, known := ExitOf(fd)
	assert.False(t, known, "nobody has reaped it")
	_ = cmd.Wait()
	status, known := ExitOf(fd)
	if !known {
		t.Skip("the kernel does not tell")
	}
	assert.True(t, status.Exited())
	assert.Equal(t, 7, status.ExitStatus())
}
