package proctree

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// The rule alone, for any two runs. TestTruthTable has what comes of it.
func TestSettle(t *testing.T) {
	const a, b, c = 11, 12, 13
	for _, row := range []struct{ limit, slice, environ, want uint32 }{
		{0, 0, 0, 0},
		{a, 0, 0, a},
		{0, a, 0, a},
		{0, 0, a, a},
		{a, a, b, a},
		{a, b, a, a},
		{b, a, a, a},
		{a, b, 0, b},
		{a, 0, b, b},
		{0, a, b, a},
		{a, b, c, b},
	} {
		assert.Equal(t, row.want, settle(row.limit, row.slice, row.environ), "%+v", row)
	}
}

// A number that nothing pins any more is asked for again, whatever was known when the look began.
func TestNumberIsPinnedWhenItCounts(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	pids := testproc.Ready(t, s.stdout)
	s.tree.sessionPinned = true
	c := &candidate{pid: pids[1], tree: &s.tree.tracker}
	for _, tr := range []track{session{}, group{}} {
		assert.Equal(t, ours, tr.judge(c), "%T", tr)
	}
	require.NoError(t, s.cmd.Process.Kill())
	_, err := syscall.Wait4(pids[0], nil, 0, nil) // somebody else reaps
	require.NoError(t, err)
	for _, tr := range []track{session{}, group{}} {
		assert.Equal(t, unknown, tr.judge(c), "%T", tr)
	}
	s.tree.number = TrackSession
	m := &Member{Process: Inspect(pids[1]), FD: -1}
	s.tree.members = map[int]*Member{m.PID: m}
	assert.Equal(t, ours, session{}.judge(c), "a member pins it")
	m.Start--
	assert.Equal(t, unknown, session{}.judge(c), "but not one that has exited")
	clear(s.tree.members)
	_ = syscall.Kill(pids[1], syscall.SIGKILL)
	s.WaitGone(t)
}

// A thread of the kernel is not asked for marks, even if nothing is known any more of when the leader began.
func TestKernelThreadIsNoDescendant(t *testing.T) {
	st, err := procfs.ReadStat(2)
	if err != nil || st.Flags&kernelThread == 0 {
		t.Skip("the kernel's threads are not in this PID namespace")
	}
	tree := &Tree{}
	tree.leaderReaped = true
	assert.True(t, (&candidate{pid: 2, tree: &tree.tracker}).older())
	assert.False(t, (&candidate{pid: os.Getpid(), tree: &tree.tracker}).older())
}

// The session of another run proves something as long as the leader pins its number.
func TestSessionOfAnothersLeader(t *testing.T) {
	skipDisabled(t, "limitmark")
	s, other := start(t, testproc.Command("fork", "0")), start(t, testproc.Command("fork", "0"))
	testproc.Ready(t, s.stdout)
	testproc.Ready(t, other.stdout)
	leader := other.cmd.Process.Pid
	assert.True(t, s.tree.isAnothers(leader))
	assert.False(t, other.tree.isAnothers(leader), "it is its own")
	require.NoError(t, other.cmd.Process.Kill())
	_, err := syscall.Wait4(leader, nil, 0, nil)
	require.NoError(t, err)
	assert.False(t, s.tree.isAnothers(leader))
}

// A parent proves something while it is known to live, and nothing of who is older than the leader.
func TestParentTrack(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	pids := testproc.Ready(t, s.stdout)
	began := s.tree.leaderStart()
	require.NotZero(t, began)
	judge := func(ppid int, start uint64, from origin) verdict {
		stat := procfs.Stat{PPID: ppid, StartTime: start}
		return parent{}.judge(&candidate{tree: &s.tree.tracker, from: from, linked: true, statRead: true, stat: stat})
	}
	assert.Equal(t, ours, judge(pids[0], began+1, anywhere))
	assert.Equal(t, ours, judge(pids[0], began, anywhere), "born in the same hundredth")
	assert.Equal(t, foreign, judge(pids[0], began-1, anywhere))
	assert.Equal(t, ours, judge(pids[0], began-1, birthWindow), "where nobody is older")
	assert.Equal(t, unknown, judge(pids[1], began+1, anywhere), "the child is no member yet")

	m := &Member{Process: Inspect(pids[1]), FD: -1}
	s.tree.members = map[int]*Member{m.PID: m}
	assert.Equal(t, ours, judge(pids[1], began+1, anywhere))
	m.Start--
	assert.Equal(t, unknown, judge(pids[1], began+1, anywhere), "somebody else has the member's number")
	clear(s.tree.members)
	s.tree.leaderReaped = true
	assert.Equal(t, unknown, judge(pids[0], began+1, anywhere), "and the leader's")
	s.tree.leaderReaped = false
}

// A member that has shed all marks since is signaled all the same, by its start time, and nobody else is.
func TestSignalWithoutMarks(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	pid := testproc.Ready(t, s.stdout)[1]
	m := &Member{Process: Inspect(pid), FD: -1}
	s.tree.tracks = nil
	assert.Equal(t, unknown, s.tree.judge(pid, birthWindow))
	m.Start--
	assert.ErrorIs(t, s.tree.Signal(m, syscall.SIGKILL), syscall.ESRCH)
	assert.False(t, testproc.Dead(pid))
	m.Start++
	assert.NoError(t, s.tree.Signal(m, syscall.SIGKILL))
	waitDead(t, pid)
}

// By number nobody is signaled that is no child of ours.
func TestSignalLeaderThatIsNotPinned(t *testing.T) {
	s := start(t, testproc.Command("fork", "1"))
	pid := testproc.Ready(t, s.stdout)[1]
	p, err := os.FindProcess(pid)
	require.NoError(t, err)
	defer p.Release()
	var tree Tree
	tree.Init(Origin{Process: p})
	defer tree.Close()
	if testproc.IsDisabled("pidfd") {
		assert.ErrorIs(t, tree.SignalLeader(syscall.SIGKILL), syscall.ESRCH)
		assert.ErrorIs(t, tree.SignalGroup(syscall.SIGKILL), syscall.ESRCH)
		assert.False(t, testproc.Dead(pid))
		return
	}
	assert.NoError(t, tree.SignalLeader(syscall.SIGKILL), "a pidfd needs no parent")
	waitDead(t, pid)
}

func TestNewestFirst(t *testing.T) {
	member := func(pid int, start uint64) *Member { return &Member{Process: Process{PID: pid, Start: start}} }
	a, b, c := member(9, 1), member(3, 2), member(4, 2)
	var tree Tree
	tree.spare = []*Member{a, b, c}
	assert.Equal(t, []*Member{c, b, a}, tree.newestFirst())
}

func TestFollows(t *testing.T) {
	const lap = 1000
	setPIDMax(t, reservedPIDs+lap)
	b := birth{serial: 5000}
	for n, want := range map[serial]bool{
		4999: false, 5000: true, 5100: true, 5101: false, 5000 + lap: false, 5050 + lap: false,
	} {
		assert.Equal(t, want, b.follows(n, 100), n)
	}
	assert.True(t, b.follows(5000+lap*3/4, lap))
	assert.False(t, b.follows(5001+lap*3/4, lap), "numbers in use are skipped: that may be a lap")
	assert.False(t, (&birth{}).follows(10, lap), "the leader's serial is not known")
}

// An old tree is not known to be childless, nor is a young one where somebody was born.
func TestChildless(t *testing.T) {
	for range 100 {
		last, ok := lastPID()
		if !ok {
			t.Skip("needs the last PID")
		}
		old := birth{leader: last, started: time.Now().Add(-time.Hour)}
		assert.False(t, old.childless())
	}
	young := birth{leader: 1 << 22, started: time.Now()}
	assert.False(t, young.childless())
}

// The number of a leader is passed over where the window comes to it, and no other.
func TestProbePassesOverLeaders(t *testing.T) {
	const first, before = 1000, serial(1) << 40 // no sequence gets as far
	leader := before + 2
	place := &leaders[leader%serial(len(leaders))]
	was := place.Load()
	defer place.Store(was)
	leader.lead()
	told := func(before serial) (pids []int) {
		probe(func(pid int, from origin) {
			assert.Equal(t, birthWindow, from)
			pids = append(pids, pid)
		}, first, first+3, before)
		return pids
	}
	assert.Equal(t, []int{1000, 1002, 1003}, told(before))
	assert.Equal(t, []int{1000, 1001, 1002, 1003}, told(before+serial(len(leaders))), "of another lap")
	assert.Equal(t, []int{1000, 1001, 1002, 1003}, told(0), "serials are not known")
	assert.False(t, serial(0).leads())
}

// All numbers are told once, those after the leader's first.
func TestProbeAll(t *testing.T) {
	var pids []int
	tell := func(pid int, _ origin) { pids = append(pids, pid) }
	assert.True(t, probeAll(nil, tell, 3, 5))
	assert.Equal(t, []int{4, 5, 1, 2, 3}, pids)
	pids = nil
	assert.False(t, probeAll(nil, tell, 3, 0), "nobody knows how many there are")
	assert.Contains(t, pids, 4)
	assert.Contains(t, pids, 1)
	pids = nil
	assert.False(t, probeAll(&watcher{isLate: func() bool { return true }}, tell, 1000, 5000))
	assert.Len(t, pids, 23)
	pids = nil
	group := []int{3, 1500, 5000}
	assert.False(t, probeAll(&watcher{isLate: func() bool { return true }, group: group}, tell, 1000, 5000))
	assert.Equal(t, []int{1500, 5000, 3}, pids[23:], "the group is known however late it is")
	pids = nil
	group = []int{1023 + maxProbes, 1024 + maxProbes}
	assert.False(t, probeAll(&watcher{isLate: func() bool { return true }, group: group}, tell, 1000, 1<<22))
	assert.Equal(t, group[:1], pids[23:], "among as many numbers as take some milliseconds")
}

// setKernelStat has /proc/stat be what f says. No reading of other tests' runs is under way then.
func setKernelStat(t *testing.T, f func() (procfs.KernelStat, error)) {
	t.Helper()
	await(t, func() bool {
		if readings.timer.Stop() {
			readings.armed.Store(false)
		}
		return !readings.armed.Load()
	})
	kernelStat = f
	t.Cleanup(func() { kernelStat = procfs.ReadKernelStat })
}

func TestEffort(t *testing.T) {
	setPIDMax(t, 32768)
	var stat procfs.KernelStat
	var fails error
	setKernelStat(t, func() (procfs.KernelStat, error) { return stat, fails })
	stat.System = 1000
	since := effortSoFar()
	lap := uint64(lapTime(32768, 1) / (10 * time.Millisecond))
	require.Greater(t, lap, uint64(samplingError))
	assert.True(t, since.lessThanALap())
	stat.System = 1000 + lap - samplingError
	assert.True(t, since.lessThanALap())
	stat.System++
	assert.False(t, since.lessThanALap(), "with what sampling may have missed")
	stat.System = 999
	assert.False(t, since.lessThanALap(), "it went back")
	stat.System = 1
	assert.False(t, effort{}.lessThanALap(), "nothing is known of before")
	fails = errors.New("unreadable")
	assert.False(t, since.lessThanALap())
	assert.False(t, effortSoFar().lessThanALap())
	assert.False(t, effort{}.lessThanALap())
}

// What an anchor's reading has cost counts as spent since.
func TestAnchorIsOfBeforeTheReading(t *testing.T) {
	setPIDMax(t, 32768)
	stat := procfs.KernelStat{System: 7}
	setKernelStat(t, func() (procfs.KernelStat, error) { return stat, nil })
	s := sequence{askedAt: time.Now().Add(time.Hour), read: func() (int, bool) {
		stat.System += 100
		return 1000, true
	}}
	_, n, ok := s.anchored()
	require.True(t, ok)
	assert.NotZero(t, n)
	assert.Equal(t, effort{system: 7, known: true}, s.lastAnchor().effort)
}
