package proctree

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// only leaves the tree nothing but one track to go by.
func (s *subject) only(tr track) *subject {
	s.tree.tracks = []track{tr}
	return s
}

// An escape is a way to start the program with the arguments of "$@" so that it is no child any more.
const (
	asChild     = `"$@" & wait`
	setsid      = `setsid "$@" & wait`
	orphaned    = `(setsid "$@" &); exec sleep 600`
	emptied     = `(env -i PATH="$PATH" setsid "$@" &); exec sleep 600`
	unlimited   = `(prlimit --rttime=unlimited:unlimited setsid "$@" &); exec sleep 600`
	rescheduled = `(chrt --other 0 setsid "$@" &); exec sleep 600`
	resliced    = `(SAFEEXEC_TEST_REMARK=7654321 "$TEST" "$SETSID" "$@" &); exec sleep 600`
)

// Each track alone, on what it sees and on what is its hole.
func TestTracks(t *testing.T) {
	t.Setenv("SETSID", testproc.HasProgram(t, "setsid"))
	testproc.HasProgram(t, "prlimit")
	testproc.HasProgram(t, "chrt")
	exe, err := os.Executable()
	require.NoError(t, err)
	t.Setenv("TEST", exe)
	for _, c := range []struct {
		track track
		in    Tracks
		sees  []string
		loses []string
	}{
		{session{}, TrackSession, []string{asChild}, []string{setsid, orphaned, emptied}},
		{limitTrack{}, TrackLimit, []string{asChild, setsid, orphaned, emptied, resliced}, []string{unlimited}},
		{sliceTrack{}, TrackSlice, []string{asChild, setsid, orphaned, emptied, unlimited, rescheduled}, []string{resliced}},
		{parent{}, TrackParent, []string{asChild, setsid}, []string{orphaned}},
		{environTrack{}, TrackEnvironment, []string{asChild, setsid, orphaned, unlimited, resliced}, []string{emptied}},
	} {
		for i, script := range append(c.sees, c.loses...) {
			seen := i < len(c.sees)
			t.Run(c.in.String()+"/"+script, func(t *testing.T) {
				// The daemon says when it is one: no process of its chain is on its way any more.
				dir := t.TempDir()
				said := filepath.Join(dir, "said")
				s := startGated(t, script, "sh", "sh", "-c", `echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 600`, said)
				if s.tree.Tracks()&c.in == 0 {
					t.Skipf("the track is not in force: %v", s.tree.Tracks())
				}
				pid := readPID(t, said)
				testproc.WaitComm(t, pid, "sleep")
				s.only(c.track)
				testproc.WaitComm(t, s.cmd.Process.Pid, map[bool]string{true: "sleep", false: "sh"}[strings.Contains(script, "exec sleep")])
				for _, mode := range []string{"window", "everybody"} {
					s.tree.born.started = time.Now()
					if mode == "everybody" {
						s.tree.born.started = time.Now().Add(-time.Hour)
					}
					if c.in == TrackParent || c.in == TrackEnvironment {
						s.tree.mark.tracks &^= TrackSlice // which spares the trouble
					}
					if seen {
						// Between the name and the environment of an exec lies a moment.
						await(t, func() bool { return slices.Contains(s.live(), pid) })
					} else {
						assert.NotContains(t, s.live(), pid, mode)
					}
					s.tree.Close()
				}
			})
		}
	}
}

func readPID(t *testing.T, path string) (pid int) {
	t.Helper()
	await(t, func() bool {
		text, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		pid = 0
		for _, d := range strings.TrimSpace(string(text)) {
			pid = 10*pid + int(d-'0')
		}
		return true
	})
	return pid
}

// What one run has marked belongs to no other, be it of this process or of another one.
func TestMarksOfOthers(t *testing.T) {
	a, b := start(t, testproc.Command("daemonize")), start(t, testproc.Command("daemonize"))
	pidA, pidB := testproc.Ready(t, a.stdout)[1], testproc.Ready(t, b.stdout)[1]
	a.tree.WaitLeader()
	b.tree.WaitLeader()
	for range 2 {
		await(t, func() bool { return len(a.live()) == 1 && len(b.live()) == 1 }) // those between are on their way out
		assert.Equal(t, []int{pidA}, a.live())
		assert.Equal(t, []int{pidB}, b.live())
		// And with everybody as a candidate, and to runs that do not know of each other.
		a.tree.born.started, b.tree.born.started = time.Time{}, time.Time{}
		liveRuns.Lock()
		clear(liveRuns.ids)
		clear(liveRuns.leaders)
		liveRuns.Unlock()
	}
}

// Somebody older cannot descend from the leader, whatever he carries.
func TestOlderThanTheLeader(t *testing.T) {
	if testproc.IsDisabled("limitmark") {
		t.Skip("needs the limit mark")
	}
	old := exec.Command("sleep", "600")
	require.NoError(t, old.Start())
	defer old.Wait()
	defer old.Process.Kill()
	began, err := procfs.ReadStat(old.Process.Pid)
	require.NoError(t, err)
	await(t, func() bool { // until the clock of start times has moved on
		probe := exec.Command("true")
		require.NoError(t, probe.Start())
		st, err := procfs.ReadStat(probe.Process.Pid)
		require.NoError(t, probe.Wait())
		return err == nil && st.StartTime > began.StartTime
	})
	s := start(t, testproc.Command("hang"))
	testproc.Ready(t, s.stdout)
	_, hard, err := sys.RTTimeLimit(old.Process.Pid)
	require.NoError(t, err)
	_, err = sys.SetRTTimeLimit(old.Process.Pid, limitOf(s.mark.half, 1), hard)
	require.NoError(t, err)
	s.tree.born.started = time.Time{} // everybody is asked
	assert.Empty(t, s.live())
	var other Mark // with which the limit alone settles nothing
	other.Begin()
	defer other.End()
	assert.Empty(t, s.live())
	assert.False(t, testproc.Dead(old.Process.Pid))
}

// Whoever is found without the limit mark gets it, and with him those he starts from then on.
func TestFoundAreMarked(t *testing.T) {
	if testproc.IsDisabled("limitmark") {
		t.Skip("needs the limit mark")
	}
	s := startGated(t, testproc.HasProgram(t, "prlimit")+` --rttime=unlimited:unlimited sleep 600 & echo ready $$ $!; wait`)
	pid := testproc.Ready(t, s.stdout)[1]
	testproc.WaitComm(t, pid, "sleep")
	soft, _, err := sys.RTTimeLimit(pid)
	require.NoError(t, err)
	require.Equal(t, uint64(procfs.Unlimited), soft)
	require.Equal(t, []int{pid}, s.live())
	soft, hard, err := sys.RTTimeLimit(pid)
	require.NoError(t, err)
	assert.Equal(t, s.mark.limit, soft)
	assert.Equal(t, uint64(procfs.Unlimited), hard, "nothing else is changed")
}

// A run within a run: the outermost finds everybody, the innermost its own.
func TestNestedMarks(t *testing.T) {
	outer, inner := uint32(5), uint32(7)
	o, i, ok := runsOf(limitOf(outer, inner))
	assert.True(t, ok)
	assert.Equal(t, []uint32{outer, inner}, []uint32{o, i})
	for _, limit := range []uint64{0, 1, 200000, procfs.Unlimited, procfs.Unlimited - 1, 1 << 61, 1 << 63, 3 << 62,
		limitOf(0, inner), limitOf(outer, 0)} {
		_, _, ok := runsOf(limit)
		assert.False(t, ok, limit)
	}

	skipDisabled(t, "environmark")
	m := Mark{}
	m.Begin()
	defer m.End()
	t.Setenv(Variable, "abc")
	env := m.Environ(&exec.Cmd{Env: []string{"A=1"}})
	require.Len(t, env, 2)
	assert.Regexp(t, `^SAFEEXEC_RUN=abc/[0-9a-z]+$`, env[1])
	t.Setenv(Variable, strings.Repeat("x", maxRuns+1))
	assert.Regexp(t, `^SAFEEXEC_RUN=[0-9a-z]+$`, m.Environ(&exec.Cmd{Env: []string{}})[0])
}

// The thread that starts is as it was afterwards.
func TestSliceIsPutBack(t *testing.T) {
	skipDisabled(t, "slice")
	var m Mark
	m.Begin()
	defer m.End()
	before, err := sys.ScheduleOf(0)
	require.NoError(t, err)
	require.NoError(t, m.Start(func() error {
		during, err := sys.ScheduleOf(0)
		if m.Tracks()&TrackSlice != 0 {
			assert.Equal(t, before.Slice()+uint64(m.id&sliceMask), during.Slice())
		}
		return err
	}))
	after, err := sys.ScheduleOf(0)
	require.NoError(t, err)
	assert.Equal(t, before.Slice(), after.Slice())
	if m.Tracks()&TrackSlice == 0 {
		t.Skip("the kernel has no slices of one's own, which came with Linux 6.12")
	}
}

// Many starts at once are few threads; one that is held up holds up nobody.
func TestStartsTakeTurns(t *testing.T) {
	await(t, func() bool { return !stalls.armed.Load() })
	before := stalls.timer
	stalls.timer = time.NewTimer(time.Hour) // nobody goes ahead but by a tick of the test's
	defer func() {
		stalls.timer.Stop()
		stalls.timer = before
		stalls.armed.Store(false)
	}()
	begin := func(n int, start func() error) (over *atomic.Bool) {
		over = new(atomic.Bool)
		go func() {
			together(n, func(m *Mark) { assert.NoError(t, m.Start(start)) })
			over.Store(true)
		}()
		return over
	}
	var at, most atomic.Int32
	await(t, begin(20*maxStarting, func() error {
		now := at.Add(1)
		for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
		}
		runtime.Gosched()
		at.Add(-1)
		return nil
	}).Load)
	assert.LessOrEqual(t, most.Load(), int32(maxStarting))

	release := make(chan struct{})
	held := begin(maxStarting, func() error { <-release; return nil })
	await(t, func() bool { return len(starting) == maxStarting })
	stalls.armed.Store(false)
	others := begin(20*maxStarting, func() error { return nil })
	await(t, func() bool { return stalls.waiting.Load() == 20*maxStarting })
	stalls.tick()
	await(t, others.Load) // one tick is for all of them, not for each
	close(release)
	await(t, held.Load)
}

// together calls f in n goroutines at once, each with a mark of its own.
func together(n int, f func(*Mark)) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			var m Mark
			m.Begin()
			defer m.End()
			f(&m)
		})
	}
	wg.Wait()
}

// Nobody waits for a turn for longer than there is time, or is wanted.
func TestTurnIsGivenUp(t *testing.T) {
	for range maxStarting {
		starting <- struct{}{}
	}
	await(t, func() bool { return stalls.armed.CompareAndSwap(false, true) }) // nobody goes ahead
	quit := make(chan struct{})
	var m Mark
	m.Begin()
	m.TakeTurn(nil, time.Now().Add(time.Millisecond))
	assert.False(t, m.HasTurn())
	time.AfterFunc(time.Millisecond, func() { close(quit) })
	m.TakeTurn(quit, time.Now().Add(time.Hour))
	assert.False(t, m.HasTurn())
	stalls.armed.Store(false)
	for range maxStarting {
		<-starting
	}
	m.TakeTurn(quit, time.Now())
	assert.True(t, m.HasTurn())
	m.TakeTurn(quit, time.Now())
	assert.Len(t, starting, 1, "it has one")
	m.End()
	assert.Empty(t, starting)
}

// Numbers of live runs differ in what the slice shows of them.
func TestLiveRuns(t *testing.T) {
	marks := make([]Mark, 1000)
	seen := make(map[uint32]bool)
	for i := range marks {
		marks[i].Begin()
		assert.False(t, seen[marks[i].id&sliceMask])
		assert.NotZero(t, marks[i].id&sliceMask)
		seen[marks[i].id&sliceMask] = true
		assert.True(t, isLive(marks[i].id))
	}
	for i := range marks {
		id := marks[i].id
		marks[i].End()
		marks[i].End()
		assert.False(t, isLive(id))
	}
}

// A supervisor that starts its worker anew whenever it dies, and leaves the group.
func TestKillRespawning(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	s := start(t, exec.Command("sh", "-c", `setsid sh -c 'trap "" TERM; echo ready $$; while :; do setsid sleep 600; done' & wait`))
	testproc.Ready(t, s.stdout)
	s.tree.Kill(time.Now().Add(time.Second), func(*Member) {})
	await(t, func() bool {
		s.tree.Kill(time.Now().Add(time.Second), func(*Member) {})
		return len(s.live()) == 0
	})
	s.WaitGone(t)
}
