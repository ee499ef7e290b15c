package proctree

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// What members have used is asked for as long as the look may take: a signal waits for it.
func TestUsedEndsWithTheLook(t *testing.T) {
	s := start(t, exec.Command("cat"))
	testproc.WaitComm(t, s.cmd.Process.Pid, "cat") // until its exec is over it has the memory of this process
	st, err := procfs.ReadStatNoComm(os.Getpid())
	require.NoError(t, err)
	s.tree.members = map[int]*Member{ // this process has used more memory than cat has
		os.Getpid(): {Process: Process{PID: os.Getpid(), Start: st.StartTime}, FD: -1},
	}
	alone, _, err := usedBy(s.cmd.Process.Pid)
	require.NoError(t, err)
	s.tree.lookEnds = time.Now().Add(time.Hour)
	all, some := s.tree.Used()
	assert.True(t, some)
	assert.Greater(t, all.Peak, alone.Peak)
	s.tree.lookEnds = time.Unix(1, 0)
	cut, some := s.tree.Used()
	assert.True(t, some, "the leader always")
	assert.Less(t, cut.Peak, all.Peak)
	clear(s.tree.members)
}
