package cgroup

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// fakeLeaf lays out a leaf and its parent as plain directories: what the kernel would offer is what
// the test puts there.
func fakeLeaf(t *testing.T, files map[string]string) *Leaf {
	t.Helper()
	parent := t.TempDir()
	l := &Leaf{dir: filepath.Join(parent, "safeexec-1-1"), name: "safeexec-1-1", fd: -1, events: -1}
	require.NoError(t, os.Mkdir(l.dir, 0o700))
	t.Cleanup(l.Close)
	for name, text := range files {
		name = strings.Replace(name, "parent/", "../", 1)
		require.NoError(t, os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600))
	}
	return l
}

func (l *Leaf) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(l.dir, name))
	require.NoError(t, err)
	return string(text)
}

func TestLimits(t *testing.T) {
	l := fakeLeaf(t, map[string]string{
		"memory.max": "", "memory.swap.max": "", "memory.oom.group": "", "pids.max": "", "cpu.max": "",
	})
	require.NoError(t, l.Limit(Limits{Memory: 1 << 20, PIDs: 7, CPU: 1.5}))
	assert.Equal(t, "1048576", l.read(t, "memory.max"))
	assert.Equal(t, "0", l.read(t, "memory.swap.max"))
	assert.Equal(t, "1", l.read(t, "memory.oom.group"))
	assert.Equal(t, "7", l.read(t, "pids.max"))
	assert.Equal(t, "150000 100000", l.read(t, "cpu.max"))

	l = fakeLeaf(t, map[string]string{"memory.max": ""})
	require.NoError(t, l.Limit(Limits{Memory: 1}), "no swap, and a kernel before 4.19")
	require.NoError(t, l.Limit(Limits{}))
	assert.NoFileExists(t, l.dir+"/memory.swap.max", "nothing is made")
}

func TestLimitWithoutController(t *testing.T) {
	limits := map[string]Limits{Memory: {Memory: 1}, PIDs: {PIDs: 1}, CPU: {CPU: 1}}
	for name, tt := range map[string]struct {
		parent map[string]string
		err    error
	}{
		"none at all":      {map[string]string{}, fs.ErrNotExist},
		"not delegated":    {map[string]string{"parent/cgroup.controllers": "cpuset hugetlb\n"}, errNotDelegated},
		"similar names":    {map[string]string{"parent/cgroup.controllers": "cpus memoryx pid\n"}, errNotDelegated},
		"parent is in use": {map[string]string{"parent/cgroup.controllers": "cpu memory pids\n", "parent/cgroup.type": "domain\n", "parent/cgroup.procs": "1\n"}, errOccupied},
	} {
		for controller, limit := range limits {
			t.Run(name+"/"+controller, func(t *testing.T) {
				err := fakeLeaf(t, tt.parent).Limit(limit)
				require.ErrorIs(t, err, tt.err)
				var e *Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, controller, e.Controller)
				assert.ErrorContains(t, err, controller)
			})
		}
	}
}

// A controller that the parent has is switched on, also where the parent is the root, which alone may
// have processes beside.
func TestEnable(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"parent": {"parent/cgroup.type": "domain\n", "parent/cgroup.procs": "\n"},
		"root":   {"parent/cgroup.procs": "1\n2\n"},
	} {
		t.Run(name, func(t *testing.T) {
			files["parent/cgroup.controllers"] = "cpuset cpu memory pids\n"
			files["parent/cgroup.subtree_control"] = ""
			l := fakeLeaf(t, files)
			err := l.Limit(Limits{PIDs: 3})
			require.ErrorIs(t, err, fs.ErrNotExist, "no kernel that would make the file")
			assert.ErrorContains(t, err, "pids.max")
			assert.Equal(t, "+pids", l.read(t, "../cgroup.subtree_control"))
		})
	}
}

func TestCPUInRange(t *testing.T) {
	zero := 0.0
	for cpu, ok := range map[float64]bool{-1: false, 0: false, 0.009: false, 0.01: true, 2.5: true, 1 / zero: false} {
		assert.Equal(t, ok, Limits{CPU: cpu}.CPUInRange(), cpu)
	}
	assert.False(t, Limits{CPU: zero / zero}.CPUInRange())
	assert.False(t, Limits{}.Any())
	assert.True(t, Limits{CPU: 1}.Any())
}

func TestOOMKilled(t *testing.T) {
	for text, killed := range map[string]bool{
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 0\noom_group_kill 0\n": false,
		"low 0\nhigh 0\nmax 7\noom 1\noom_kill 2\n":                   true,
		"oom_kill 0\noom_group_kill 1\n":                              true,
		"oom_kill x\n":                                                false,
		"":                                                            false,
	} {
		assert.Equal(t, killed, fakeLeaf(t, map[string]string{"memory.events": text}).OOMKilled(), "%q", text)
	}
	assert.False(t, fakeLeaf(t, nil).OOMKilled())
}

func TestEventsThatSayNothing(t *testing.T) {
	l := fakeLeaf(t, map[string]string{"cgroup.events": "frozen 0\n"})
	require.NoError(t, l.open())
	_, err := l.Populated()
	require.Error(t, err, "nobody is not what it says")
	for text, populated := range map[string]bool{"populated 0\nfrozen 0\n": false, "frozen 0\npopulated 1\n": true} {
		l := fakeLeaf(t, map[string]string{"cgroup.events": text})
		require.NoError(t, l.open())
		got, err := l.Populated()
		require.NoError(t, err)
		assert.Equal(t, populated, got)
	}
}

func TestPIDsAreListedBelow(t *testing.T) {
	l := fakeLeaf(t, map[string]string{"cgroup.procs": "12\n0\n13\n"})
	require.NoError(t, os.MkdirAll(l.dir+"/a/b", 0o700))
	require.NoError(t, os.Mkdir(l.dir+"/empty", 0o700)) // removed between list and look, as it were
	require.NoError(t, os.WriteFile(l.dir+"/a/b/cgroup.procs", []byte("14\n"), 0o600))
	var got []int
	require.NoError(t, l.PIDs(func(pid int) bool { got = append(got, pid); return true }))
	assert.Equal(t, []int{12, 13, 14}, got)
	got = nil
	require.NoError(t, l.PIDs(func(pid int) bool { got = append(got, pid); return false }))
	assert.Equal(t, []int{12}, got)
}
