package proctree

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func (b *birth) list() []int {
	var pids []int
	b.candidates(func(pid int) { pids = append(pids, pid) })
	return pids
}

func TestWindowOfALeaderJustBorn(t *testing.T) {
	skipDisabled(t, "loadavg")
	s := start(t, testproc.Command("fork", "3"))
	pids := testproc.Ready(t, s.stdout)
	if slices.Min(pids) != pids[0] {
		t.Skip("the sequence of PIDs has just wrapped around")
	}
	require.True(t, s.tree.born.sound())
	window := s.tree.born.list()
	assert.Subset(t, window, pids[1:])
	assert.NotContains(t, window, pids[0], "the leader is no candidate")
	assert.Equal(t, pids[0]+1, window[0])
	assert.True(t, slices.IsSorted(window))
	assert.NotContains(t, window, 1)
}

// Where the window proves nothing, everybody is asked.
func TestUnsoundWindow(t *testing.T) {
	now := time.Now()
	good := newBirth(os.Getpid(), now)
	require.NotZero(t, good.lap.pidMax)
	everybody := func(t *testing.T, b birth) {
		s := start(t, testproc.Command("fork", "1"))
		pids := testproc.Ready(t, s.stdout)
		list := b.list()
		assert.Subset(t, list, append(pids, os.Getpid()))
		s.tree.born = b
		s.tree.born.leader = 1 << 22 // whatever it says
		assert.Equal(t, pids[1:], s.live())
	}
	for name, change := range map[string]func(b *birth){
		"pid_max unknown": func(b *birth) { b.lap.pidMax = 0 },
		"pid_max changed": func(b *birth) { b.lap.pidMax++; b.started = now.Add(-time.Hour) },
		"counter went back": func(b *birth) {
			b.lap.forks = 1 << 62
			b.started = now.Add(-time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := good
			change(&b)
			assert.False(t, b.sound())
			everybody(t, b)
		})
	}
	t.Run("a lap later", func(t *testing.T) {
		b := good
		b.started = now.Add(-time.Hour)
		b.lap.forks -= min(b.lap.forks, uint64(b.lap.pidMax))
		if forked := takeLap().forks - b.lap.forks; forked < uint64(b.lap.pidMax) {
			t.Skipf("the machine has forked %d times in all, which is less than a lap", forked)
		}
		assert.False(t, b.sound())
		everybody(t, b)
	})
}

func TestSoundWhileFewForksHappened(t *testing.T) {
	b := newBirth(os.Getpid(), time.Now())
	require.True(t, b.sound())
	b.lap = takeLap()
	b.started = time.Now().Add(-time.Hour) // time alone rules nothing out now
	assert.True(t, b.sound())
}

// The window as it is after the sequence has wrapped around, without waiting for that.
func TestWindowAfterWrapAround(t *testing.T) {
	skipDisabled(t, "loadavg")
	last, ok := lastPID()
	require.True(t, ok)
	b := newBirth(last+1000, time.Now())
	pidMax := b.lap.pidMax
	if b.leader >= pidMax {
		t.Skip("too near to the end of the sequence")
	}
	list := b.list()
	if pidMax-b.leader+last > maxProbes {
		assert.Contains(t, list, os.Getpid(), "too many to probe: everybody who is there")
		return
	}
	assert.Contains(t, list, last)
	assert.Contains(t, list, b.leader+1)
	assert.Contains(t, list, pidMax-1)
	assert.NotContains(t, list, b.leader)
	assert.NotContains(t, list, b.leader-1)
}

func TestProbe(t *testing.T) {
	got := func(from, to, pidMax int) (pids []int) {
		probe(func(pid int) { pids = append(pids, pid) }, from, to, pidMax)
		return pids
	}
	assert.Empty(t, got(8, 7, 100), "nobody was born since")
	assert.Equal(t, []int{7}, got(7, 7, 100))
	assert.Equal(t, []int{7, 8, 9}, got(7, 9, 100))
	// Beyond what is worth probing.
	assert.Contains(t, got(5, 5+maxProbes+1, 1<<22), os.Getpid())
	assert.Less(t, len(got(5, 5+maxProbes+1, 1<<22)), maxProbes)
}

func TestEveryPID(t *testing.T) {
	for _, pidMax := range []int{0, maxProbes, maxProbes + 1, 1 << 22} {
		var pids []int
		everyPID(func(pid int) { pids = append(pids, pid) }, pidMax)
		if pidMax != maxProbes || os.Getpid() <= pidMax {
			assert.Contains(t, pids, os.Getpid(), pidMax)
		}
		assert.NotContains(t, pids, 0)
	}
}

func TestLastPID(t *testing.T) {
	if testproc.IsDisabled("loadavg") {
		_, ok := lastPID()
		assert.False(t, ok)
		return
	}
	last, ok := lastPID()
	assert.True(t, ok)
	assert.Positive(t, last)
	assert.LessOrEqual(t, last, readPIDMax())
}

// wrapInside selects, in a PID namespace with few PIDs, the test that wraps around for real.
const wrapInside = "SAFEEXEC_TEST_WRAP_INSIDE"

// pid_max belongs to the PID namespace since Linux 6.14; before, this would change the machine's.
func TestWrapAroundForReal(t *testing.T) {
	if testproc.Unprivileged() {
		t.Skip("needs root to make a PID namespace")
	}
	unshare := testproc.HasProgram(t, "unshare")
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	require.NoError(t, err)
	var major, minor int
	fmt.Sscanf(string(release), "%d.%d", &major, &minor)
	if major < 6 || major == 6 && minor < 14 {
		t.Skipf("needs a pid_max of the namespace's own, Linux 6.14; this is %s", release)
	}
	exe, err := os.Executable()
	require.NoError(t, err)
	// The shell stays PID 1.
	cmd := exec.CommandContext(testproc.Deadline(t), unshare, "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", `echo 1500 >/proc/sys/kernel/pid_max && "$0" -test.run '^TestInsideSmallNamespace$' -test.v; exit $?`, exe)
	cmd.Env = append(os.Environ(), wrapInside+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	assert.Contains(t, string(out), "--- PASS: TestInsideSmallNamespace")
}

// burn uses up PIDs: a subshell each.
func burn(t *testing.T, n int) {
	t.Helper()
	out, err := exec.Command("sh", "-c", `i=0; while [ $i -lt "$0" ]; do (:); i=$((i+1)); done`, strconv.Itoa(n)).CombinedOutput()
	require.NoError(t, err, "%s", out)
}

func TestInsideSmallNamespace(t *testing.T) {
	if os.Getenv(wrapInside) == "" {
		t.Skip("is run by TestWrapAroundForReal")
	}
	pidMax := readPIDMax()
	require.Equal(t, 1500, pidMax)
	for range 10 {
		last, err := os.ReadFile("/proc/loadavg")
		require.NoError(t, err)
		fields := strings.Fields(string(last))
		n, err := strconv.Atoi(fields[len(fields)-1])
		require.NoError(t, err)
		burn(t, max(pidMax-n-20, 0))

		s := start(t, testproc.Command("fork", "5"))
		pids := testproc.Ready(t, s.stdout)
		if slices.Min(pids) == pids[0] {
			s.endLeader(t) // did not wrap, or before it was born
			s.killAll()
			burn(t, 100)
			continue
		}
		children := slices.Sorted(slices.Values(pids[1:]))
		assert.True(t, s.tree.born.sound())
		assert.Equal(t, children, s.live())
		if !testproc.IsDisabled("loadavg") {
			assert.Less(t, len(s.tree.born.list()), pidMax-1, "the window and not everybody")
		}
		s.endLeader(t)
		assert.Equal(t, children, s.live())

		burn(t, pidMax) // a lap: the window proves nothing any more
		assert.False(t, s.tree.born.sound())
		s.tree.Close()
		assert.Equal(t, children, s.live())
		return
	}
	t.Error("the sequence of PIDs never wrapped around within a tree")
}
