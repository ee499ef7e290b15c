package engine

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// To ask for the usage again and again looks at the tree now and then.
func TestUsageStandsForAWhile(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, cmd.Start())
	var r Run
	r.Tree.Init(proctree.Origin{Process: cmd.Process, Started: began})
	defer r.Tree.Close()
	r.usageStands = time.Now().Add(time.Hour)
	assert.Zero(t, r.UsageNow().Processes, "nobody has looked")
	r.usageStands = time.Time{}
	assert.Equal(t, 1, r.UsageNow().Processes)
	assert.True(t, r.usageStands.After(began))
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
}
