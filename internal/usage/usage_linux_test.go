package usage

import (
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

func used(cpu time.Duration) sys.Usage { return sys.Usage{User: cpu} }

// A process that was seen may have been waited for since: the two are not added.
func TestTotal(t *testing.T) {
	const s = time.Second
	for name, tt := range map[string]struct {
		meter Meter
		cpu   time.Duration
		from  Source
	}{
		"nothing":              {Meter{}, 0, Unknown},
		"reaped":               {Meter{reaped: used(s), leader: true}, s, Seen},
		"seen":                 {Meter{seen: used(s), looked: true}, s, Seen},
		"reaped is more":       {Meter{reaped: used(3 * s), leader: true, seen: used(2 * s), looked: true}, 3 * s, Seen},
		"seen is more":         {Meter{reaped: used(s), leader: true, seen: used(2 * s), looked: true}, 2 * s, Seen},
		"cgroup":               {Meter{reaped: used(s), leader: true, leaf: used(5 * s), cpu: true}, 5 * s, Exact},
		"cgroup, a little off": {Meter{reaped: used(s), leader: true, leaf: used(s - s/10), cpu: true}, s - s/10, Exact},
		"left its cgroup":      {Meter{reaped: used(s), leader: true, leaf: used(s / 10), cpu: true}, s, Seen},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.meter.Total()
			assert.Equal(t, tt.cpu, got.Usage.CPU())
			assert.Equal(t, tt.from, got.CPU)
		})
	}
}

func TestTotalMemory(t *testing.T) {
	reaped, seen, leaf := sys.Usage{Peak: 2}, sys.Usage{Peak: 3}, sys.Usage{Peak: 1}
	for name, tt := range map[string]struct {
		meter Meter
		peak  int64
		from  Source
	}{
		"nothing": {Meter{leader: true}, 0, Unknown},
		"reaped":  {Meter{reaped: reaped, leader: true}, 2, Seen},
		"seen":    {Meter{reaped: reaped, leader: true, seen: seen, looked: true}, 3, Seen},
		"cgroup":  {Meter{reaped: reaped, leader: true, seen: seen, looked: true, leaf: leaf, peak: true}, 1, Exact},
		"left its cgroup": {Meter{reaped: sys.Usage{User: time.Second, Peak: 2}, leader: true, leaf: leaf, cpu: true,
			peak: true}, 2, Seen},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.meter.Total()
			assert.Equal(t, tt.peak, got.Peak)
			assert.Equal(t, tt.from, got.Memory)
		})
	}
	assert.Equal(t, Unknown, (&Meter{seen: seen, looked: true}).Total().IO, "only who is reaped tells")
	assert.Equal(t, Seen, (&Meter{leader: true}).Total().IO)
}

// What wait4 has said costs a run nothing.
func TestReapedAllocatesNothing(t *testing.T) {
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	var tree proctree.Tree
	var m Meter
	m.Reaped(&tree, cmd.ProcessState)
	assert.Equal(t, cmd.ProcessState.UserTime(), m.Total().User)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		m.Reaped(&tree, cmd.ProcessState)
		_ = m.Total()
	}))
}

// A child that is no larger than we are has our peak.
func TestPeakOf(t *testing.T) {
	cmd := exec.Command("true")
	require.NoError(t, cmd.Run())
	u, ok := sys.UsageOf(cmd.ProcessState)
	require.True(t, ok)
	assert.Positive(t, u.Peak)
	assert.Zero(t, PeakOf(cmd.ProcessState))
	assert.False(t, ofItsOwn(proctree.Peak()))
	assert.True(t, ofItsOwn(2*proctree.Peak()+1<<20))
}

// To ask again and again looks at the tree now and then.
func TestSoFarStandsForAWhile(t *testing.T) {
	cmd := exec.Command("cat")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	began := time.Now()
	require.NoError(t, cmd.Start())
	var tree proctree.Tree
	tree.Init(proctree.Origin{Process: cmd.Process, Started: began})
	defer tree.Close()
	m := Meter{stands: time.Now().Add(time.Hour)}
	assert.Zero(t, m.SoFar(&tree, nil).Processes, "nobody has looked")
	m.stands = time.Time{}
	assert.Equal(t, 1, m.SoFar(&tree, nil).Processes)
	assert.True(t, m.stands.After(began))
	require.NoError(t, stdin.Close())
	require.NoError(t, cmd.Wait())
}
