package testproc

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestCanaryKillsWhatATestLeft(t *testing.T) {
	cmd := Command("fork", "2")
	var r *os.File
	t.Run("leaves a tree", func(t *testing.T) {
		canary := NewCanary(t)
		cmd.ExtraFiles = []*os.File{canary.File()}
		var w *os.File
		var err error
		r, w, err = os.Pipe()
		require.NoError(t, err)
		cmd.Stdout = w
		require.NoError(t, cmd.Start())
		require.NoError(t, w.Close())
		canary.CloseParent()
		Ready(t, r)
		assert.True(t, canary.Alive())
	})
	defer r.Close()
	// The whole tree holds the pipe: its end says that all of it was killed.
	_, err := r.Read(make([]byte, 1))
	assert.Error(t, err)
	assert.Equal(t, syscall.SIGKILL, waitStatus(t, cmd).Signal())
}

func TestCanaryNamesHolders(t *testing.T) {
	cmd := Command("hang")
	r, canary := startTree(t, cmd)
	Ready(t, r)
	assert.Equal(t, []int{cmd.Process.Pid}, canary.Holders())
}

// What another test starts at this moment holds everything, close-on-exec, between its fork and its exec.
// Killing it would end a bystander.
func TestCanaryLeavesWhatIsAboutToExec(t *testing.T) {
	python := HasProgram(t, "python3")
	canary := NewCanary(t)
	cmd := exec.Command(python, "-c", `import fcntl, os, sys
fcntl.fcntl(3, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
print("ready", os.getpid(), flush=True)
sys.stdin.read()`)
	cmd.ExtraFiles = []*os.File{canary.File()}
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	Ready(t, stdout)
	assert.Empty(t, canary.Holders())
	canary.kill(20 * time.Millisecond)
	require.NoError(t, stdin.Close())
	assert.NoError(t, cmd.Wait())
}
