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

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func (b *birth) list() []int {
	var pids []int
	now := new(corpses).look()
	b.candidates(&watcher{
		visit:  func(pid int, _ origin) { pids = append(pids, pid) },
		enough: func() bool { return true },
	}, now)
	return pids
}

// window lists what is probed for a leader, whatever the time says.
func (b *birth) windowList(last, pidMax int) []int {
	var pids []int
	visit := func(pid int, _ origin) { pids = append(pids, pid) }
	b.window(&watcher{visit: visit, enough: func() bool { return false }}, visit, last, pidMax)
	return pids
}

func TestWindowOfALeaderJustBorn(t *testing.T) {
	skipDisabled(t, "loadavg")
	s := start(t, testproc.Command("fork", "3"))
	pids := testproc.Ready(t, s.stdout)
	last, ok := lastPID()
	require.True(t, ok)
	if slices.Min(pids) != pids[0] || last < pids[0] {
		t.Skip("the sequence of PIDs has just wrapped around")
	}
	window := s.tree.born.windowList(last, pidMax.get())
	assert.Subset(t, window, pids[1:])
	assert.NotContains(t, window, pids[0], "the leader is no candidate")
	assert.Equal(t, pids[0]+1, window[0])
	assert.True(t, slices.IsSorted(window))
	assert.NotContains(t, window, 1)
}

// Where the window proves nothing, every process is checked.
func TestUnsoundWindow(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	pids := testproc.Ready(t, s.stdout)
	b := birth{leader: pids[0], started: time.Now().Add(-time.Hour)}
	assert.Subset(t, b.list(), append(pids, os.Getpid()))
	s.tree.born = b
	s.tree.born.leader = 1 << 22 // whatever it says
	assert.Equal(t, pids[1:], s.live())
}

// Only time rules a lap out: three quarters of what is left of pid_max, at what a PID takes a CPU and all of them.
func TestSound(t *testing.T) {
	const pidMax = 32768
	lap := (pidMax - reservedPIDs) * 3 / 4
	for _, c := range []struct {
		elapsed      time.Duration
		pidMax, cpus int
		want         bool
	}{
		{1, pidMax, 1, true},
		{0, pidMax, 1, false},
		{-1, pidMax, 1, false},
		{time.Duration(lap-1) * fastestClone, pidMax, 1, true},
		{time.Duration(lap+1) * fastestClone, pidMax, 1, false},
		{time.Duration(lap-1) * fastestClone, pidMax, 2, false},
		{time.Duration(lap/2-1) * fastestClone, pidMax, 2, true},
		{time.Duration(lap) * fastestClone, pidMax, 1, false},
		{time.Duration(lap-1) * fastestPID, pidMax, manyCPUs, true},
		{time.Duration(lap+1) * fastestPID, pidMax, manyCPUs, false},
		{time.Duration(lap-1) * fastestPID, pidMax, 0, true},
		{time.Duration(lap+1) * fastestPID, pidMax, 0, false},
		{time.Hour, pidMax, 2, false},
		{time.Hour, 1 << 22, 64, false},
		{0, 0, 1, false},
		{0, reservedPIDs, 1, false},
	} {
		assert.Equal(t, c.want, sound(c.elapsed, c.pidMax, c.cpus), "%+v", c)
	}
	assert.Positive(t, cpus.get())
}

// A watcher is a lookout made of functions.
type watcher struct {
	visit  visit
	enough func() bool
	isLate func() bool // nil: it never is
	leads  bool        // a leader lives that can start somebody
	group  []int       // that is signaled by number
	lists  int         // that it was given
	past   bool        // its time for lists is over
	begins func()      // nil: nothing to do
}

func (w *watcher) consider(pid int, from origin)    { w.visit(pid, from) }
func (w *watcher) considerNew(pid int, from origin) { w.visit(pid, from) }
func (w *watcher) toldAll()                         {}
func (w *watcher) excludes(bearer) bool             { return false }
func (w *watcher) found() bool                      { return w.enough() }
func (w *watcher) begin() {
	if w.begins != nil {
		w.begins()
	}
}
func (w *watcher) settles() bool        { return !w.leads }
func (w *watcher) late() bool           { return w.isLate != nil && w.isLate() }
func (w *watcher) waited(time.Duration) { w.lists++ }
func (w *watcher) patience() time.Time {
	if w.past {
		return time.Unix(1, 0)
	}
	return time.Now().Add(time.Hour)
}
func (w *watcher) grouped(pid int) bool { return slices.Contains(w.group, pid) }

// look is a lookout that writes down whom it is told, and does something once in each list.
type look struct {
	known, fresh []int
	first        func()
}

func (l *look) consider(pid int, _ origin) {
	if l.known = append(l.known, pid); l.first != nil && pid == os.Getpid() {
		l.first()
	}
}
func (l *look) considerNew(pid int, _ origin) { l.fresh = append(l.fresh, pid) }
func (l *look) toldAll()                      {}
func (l *look) excludes(bearer) bool          { return false }
func (l *look) begin()                        {}
func (l *look) late() bool                    { return false }
func (l *look) waited(time.Duration)          {}
func (l *look) patience() time.Time           { return time.Now().Add(time.Hour) }
func (l *look) grouped(int) bool              { return false }
func (l *look) settles() bool                 { return true }
func (l *look) found() bool                   { return false }

// A look reports a process that is born during it as a new one.
func TestBornDuringALook(t *testing.T) {
	skipDisabled(t, "loadavg")
	var born []int
	inTime(t, func() bool {
		b := birth{leader: os.Getpid(), started: time.Now().Add(-time.Hour)} // all are listed
		now := new(corpses).look()
		l := &look{first: func() {
			s := start(t, testproc.Command("fork", "1"))
			born = testproc.Ready(t, s.stdout)
		}}
		if !b.candidates(l, now) {
			return false // something else starts and starts
		}
		assert.Subset(t, l.fresh, born[1:], "the leader is nobody else's")
		twice := 0
		for _, pid := range l.known {
			if pid == os.Getpid() {
				twice++
			}
		}
		assert.Equal(t, 2, twice, "for those whose birth was under way")
		return !slices.Contains(l.fresh, os.Getpid()) // or it did take as long as a lap may
	})
}

// The window as it is after the sequence has wrapped around.
func TestWindowAfterWrapAround(t *testing.T) {
	b := birth{leader: 990}
	assert.Equal(t, []int{991, 992, 993, 1, 2, 3}, b.windowList(3, 993))
	b = birth{leader: os.Getpid()}
	assert.Contains(t, b.windowList(os.Getpid()-1, 1<<22), os.Getppid(), "too many to probe: everybody who is there")
	assert.Contains(t, b.windowList(os.Getpid()+maxProbes+1, 1<<22), os.Getppid())
	assert.Empty(t, b.windowList(os.Getpid(), 1<<22), "nobody was born since")

	lists := 0
	fork := forkEachList(t, &lists)
	assert.True(t, b.window(&watcher{visit: fork, enough: func() bool { return false }}, fork, os.Getpid()-1, 1<<22))
	assert.Equal(t, 2, lists, "a birth that was under way in the first is in the second")
}

// forkEachList returns a visit that forks once in each list of all processes, and counts the lists.
func forkEachList(t *testing.T, lists *int) visit {
	return func(pid int, _ origin) {
		if pid == os.Getpid() {
			_, err := os.StartProcess("", []string{""}, &os.ProcAttr{})
			require.ErrorIs(t, err, os.ErrNotExist, "in the child")
			*lists++
		}
	}
}

// Where the last PID cannot be had, a machine that never stops forking is not believed to have told of
// everybody, nor looked at for long.
func TestChaseOfForksThatNeverEnd(t *testing.T) {
	var forks int
	fork := forkEachList(t, &forks)
	began := time.Now()
	assert.True(t, chaseForks(&watcher{visit: fork, enough: func() bool { return false }}, 0))
	assert.GreaterOrEqual(t, time.Since(began), maxForkChase)
	t.Log(forks, "looks")

	forks = 0
	assert.True(t, chaseForks(&watcher{visit: fork, enough: func() bool { return forks == 1 }}, 0))
	assert.Equal(t, 1, forks)

	forks = 0
	assert.True(t, chaseForks(&watcher{visit: fork, enough: func() bool { return false }, leads: true}, 0))
	assert.Equal(t, 1, forks, "another look is necessary anyway")
}

func TestEveryPID(t *testing.T) {
	for _, pidMax := range []int{0, maxProbes, maxProbes + 1, 1 << 22} {
		var pids []int
		everyPID(nil, func(pid int, _ origin) { pids = append(pids, pid) }, 0, pidMax)
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
	assert.LessOrEqual(t, last, pidMax.get())
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
		"sh", "-c", `echo 700 >/proc/sys/kernel/pid_max && "$0" -test.run '^TestInsideSmallNamespace$' -test.v; exit $?`, exe)
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
	pidMax := pidMax.get()
	require.Equal(t, 700, pidMax)
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
		assert.Equal(t, children, s.live())
		if last, ok := lastPID(); ok {
			window := s.tree.born.windowList(last, pidMax)
			assert.Subset(t, window, children)
			assert.Less(t, len(window), pidMax-1, "the window and not everybody")
		}
		s.endLeader(t)
		assert.Equal(t, children, s.live())

		burn(t, pidMax) // a lap: the window proves nothing any more
		s.tree.Close()
		assert.Equal(t, children, s.live())
		return
	}
	t.Error("the sequence of PIDs never wrapped around within a tree")
}

// A look during which the kernel worked for as long as it takes to use up all PIDs is not known to be complete. It
// is repeated for as long as it may.
func TestLookThatTakesLongerThanALap(t *testing.T) {
	if testproc.IsDisabled("loadavg") {
		t.Skip("needs the last PID")
	}
	shortLaps(t)
	setCPUs(t, manyCPUs)
	looks := 0
	fork := forkEachList(t, &looks)
	slow := func(pid int, from origin) {
		fork(pid, from)
		if pid == os.Getpid() {
			workInKernel(t, lapTime(pidMax.get(), 1))
		}
	}
	l := &watcher{visit: slow, enough: func() bool { return false }, isLate: func() bool { return looks >= 3 }}
	assert.False(t, new(birth).candidates(l, new(corpses).look()))
	assert.Contains(t, []int{3, 4}, looks, "a list that is begun in time is made twice")
}

// However much the kernel has to do meanwhile, a list during which nothing was born is complete.
func TestListWithoutABirth(t *testing.T) {
	setCPUs(t, manyCPUs)
	var stat procfs.KernelStat
	setKernelStat(t, func() (procfs.KernelStat, error) { stat.System += 1 << 20; return stat, nil })
	for _, c := range []struct {
		forks, each uint64
		want        bool
		lists       int
	}{
		{forks: 1, want: true, lists: 1},
		{forks: 1, each: 1, lists: 2}, // something is born during each
		{forks: 0, lists: 2},          // the kernel does not count
	} {
		stat.Forks = c.forks
		lists := 0
		visit := func(pid int, _ origin) {
			if pid == os.Getpid() {
				lists++
				stat.Forks += c.each
				spin(2 * lapTime(pidMax.get(), manyCPUs))
			}
		}
		l := &watcher{visit: visit, enough: func() bool { return false }, isLate: func() bool { return lists >= 2 }}
		assert.Equal(t, c.want, new(birth).candidates(l, new(corpses).look()), "%+v", c)
		assert.Equal(t, c.lists, lists, "%+v", c)
	}
}

// A look that was held up, on a machine of many CPUs where all PIDs could be used up meanwhile, is believed if the
// kernel had nothing to do.
func TestLookThatIsHeldUp(t *testing.T) {
	if testproc.IsDisabled("loadavg") {
		t.Skip("needs the last PID")
	}
	shortLaps(t)
	setCPUs(t, manyCPUs)
	looks := 0
	slow := func(pid int, _ origin) {
		if pid == os.Getpid() {
			looks++
			spin(2 * lapTime(pidMax.get(), manyCPUs))
		}
	}
	// Other programs' work counts as well, and then it is repeated.
	deadline := testproc.Deadline(t)
	l := &watcher{visit: slow, enough: func() bool { return false }, isLate: func() bool { return deadline.Err() != nil }}
	for !new(birth).candidates(l, new(corpses).look()) {
		require.NoError(t, deadline.Err())
	}
	assert.Positive(t, looks)
}

// workInKernel returns when the kernel has spent so much time on whatever.
func workInKernel(t *testing.T, d time.Duration) {
	t.Helper()
	for began := effortSoFar(); ; {
		now := effortSoFar()
		require.True(t, now.known)
		if time.Duration(now.system-began.system)*10*time.Millisecond >= d {
			return
		}
	}
}

// So the last PID is read all the time.
func TestPulseOfALook(t *testing.T) {
	last, ok := lastPID()
	if !ok || last < reservedPIDs {
		t.Skip("needs the last PID, and one of later than the first laps")
	}
	start(t, testproc.Command("fork", "5"))
	setCPUs(t, manyCPUs)
	visits, unread := 0, 0
	var since time.Time
	everyPID(nil, func(int, origin) {
		if visits == 20 {
			return
		}
		pids.Lock()
		at := pids.at
		pids.Unlock()
		if at.Before(since) {
			unread++
		}
		visits++
		since = time.Now()
		spin(newPulse().every)
	}, 0, pidMax.get())
	assert.GreaterOrEqual(t, visits, 6)
	assert.Zero(t, unread)
}

func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}
