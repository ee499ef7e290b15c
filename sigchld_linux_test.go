package safeexec_test

import (
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// ignoreChildren has the kernel reap this process's children, until restoreChildren.
func ignoreChildren() { signal.Ignore(syscall.SIGCHLD) }

// restoreChildren goes by way of a handler: signal.Reset leaves SIGCHLD ignored.
func restoreChildren() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	signal.Stop(c)
}

// Who has cmd.Process may release it. The command is reaped all the same.
func TestReleasedProcessIsReaped(t *testing.T) {
	testproc.NoLeaks(t)
	stdin, release := io.Pipe()
	cmd := exec.Command("cat")
	cmd.Stdin = stdin
	p, err := safeexec.Start(testproc.Deadline(t), cmd)
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Release())
	require.NoError(t, release.Close())
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrStatusUnknown)
	assert.Nil(t, res.State)
	testproc.WaitState(t, p.PID(), "\x00")
}
