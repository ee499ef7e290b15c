package cgroup

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestUsage(t *testing.T) {
	l := fakeLeaf(t, map[string]string{
		"cpu.stat":    "usage_usec 30\nuser_usec 10\nsystem_usec 20\nnice_usec 0\ncore_sched.force_idle_usec 0\n",
		"memory.peak": "1048576\n",
	})
	user, system, ok := l.CPU()
	assert.True(t, ok)
	assert.Equal(t, 10*time.Microsecond, user)
	assert.Equal(t, 20*time.Microsecond, system)
	peak, ok := l.MemoryPeak()
	assert.True(t, ok)
	assert.Equal(t, int64(1<<20), peak)

	for name, files := range map[string]map[string]string{
		"absent":            nil,
		"of another kernel": {"cpu.stat": "usage_usec 30\nuser_usec 10\n", "memory.peak": "max\n"},
	} {
		t.Run(name, func(t *testing.T) {
			l := fakeLeaf(t, files)
			_, _, ok := l.CPU()
			assert.False(t, ok)
			_, ok = l.MemoryPeak()
			assert.False(t, ok)
		})
	}
}

// Those who have ended stay in the count.
func TestUsageOfTheKernel(t *testing.T) {
	testproc.NoLeaks(t)
	l := realLeaf(t)
	cmd := testproc.Command("exit", "0")
	startIn(t, l, cmd)
	testproc.WaitState(t, cmd.Process.Pid, "Z")
	user, system, ok := l.CPU()
	require.True(t, ok)
	assert.Positive(t, user+system)
}
