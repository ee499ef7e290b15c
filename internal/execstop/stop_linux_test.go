package execstop

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// waitid(2) can fail for other reasons than an exit. Here it does since the process is no child of ours.
func TestErrorOfWaitIsNoExit(t *testing.T) {
	parent := exec.Command("sh", "-c", "sleep 600 & echo $!; wait")
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	pid, err := strconv.Atoi(testproc.ReadLine(t, stdout))
	require.NoError(t, err)
	child, err := os.FindProcess(pid)
	require.NoError(t, err)
	s := Stop{child: child}
	assert.False(t, s.Exited())
	s.Kill()
	_ = parent.Wait() // its last child is reaped
	assert.True(t, s.Exited())
	require.NoError(t, child.Release())
}
