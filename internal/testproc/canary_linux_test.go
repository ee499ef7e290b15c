package testproc

import (
	"os"
	"syscall"
	"testing"

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
