package proctree

import (
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// setPIDMax has the sequence believe in another pid_max.
func setPIDMax(t *testing.T, n int) {
	before := pidMax.get()
	ask := func(at time.Time) {
		pids.Lock()
		defer pids.Unlock()
		pids.askedAt = at
	}
	ask(time.Now().Add(time.Hour)) // or the keeper's timer looks at it in the midst of the test
	pidMax.value.Store(int64(n))
	t.Cleanup(func() {
		pidMax.value.Store(int64(before))
		ask(time.Time{})
	})
}

// shortLaps has a lap be over soon also where there are millions of PIDs, as in a PID namespace since Linux 6.14.
func shortLaps(t *testing.T) {
	t.Helper()
	const few = 32768
	last, ok := lastPID()
	switch {
	case pidMax.get() <= few:
	case ok && last < few/2:
		setPIDMax(t, few)
	default:
		t.Skipf("a lap of %d PIDs takes too long, and the last one is %d", pidMax.get(), last)
	}
}

func TestSequence(t *testing.T) {
	const lap, limit = 1000, reservedPIDs + 1000
	setPIDMax(t, limit)
	now := time.Now()
	var s sequence
	first := s.follow(0, false, reservedPIDs+10, limit, now)
	require.NotZero(t, first)
	assert.EqualValues(t, 10, first%lap)

	assert.Equal(t, first, s.follow(first, true, reservedPIDs+10, limit, now), "none was handed out")
	n := first
	for range 100 { // many laps, in readings that come in time
		step := rand.IntN(lap * 3 / 4)
		pid := reservedPIDs + (int(n)+step)%lap
		next := s.follow(n, true, pid, limit, now)
		require.Equal(t, n+serial(step), next)
		assert.Equal(t, n, next.before(reservedPIDs+int(n%lap), pid))
		n = next
	}

	assert.Zero(t, s.follow(n, true, reservedPIDs-1, limit, now), "a first lap")
	assert.Zero(t, s.follow(n, true, reservedPIDs+1, limit+1, now), "read while pid_max was another")
	assert.Zero(t, n.before(reservedPIDs+lap, reservedPIDs+int(n%lap)))
	assert.Zero(t, n.before(reservedPIDs-1, reservedPIDs+int(n%lap)))
	assert.Zero(t, serial(0).before(reservedPIDs+1, reservedPIDs+2))

	// Too late: further on than any window goes, and at the same place.
	later := s.follow(n, false, reservedPIDs+int(n%lap), limit, now)
	assert.Greater(t, later, n+lap)
	assert.Equal(t, n%lap, later%lap)
	assert.Zero(t, s.follow(n, false, reservedPIDs+5, limit, now), "somebody else was late first")
	// A reading from before that is right about what was known, and changes nothing.
	assert.Equal(t, n+1, s.follow(n, true, reservedPIDs+int((n+1)%lap), limit, now.Add(time.Hour)))
	assert.Equal(t, later, s.serial)
	assert.Equal(t, now, s.at)
}

// What counts is the time until the reading is there, not until it is asked for.
func TestReadingThatTakesLong(t *testing.T) {
	shortLaps(t)
	for _, late := range []bool{false, true} {
		before := lapOf(pidMax.get()) * 7
		s := sequence{serial: before, askedAt: time.Now()}
		s.read = func() (int, bool) {
			if late {
				await(t, func() bool { return !sound(time.Since(s.at), pidMax.get(), cpus.get()) })
			}
			return reservedPIDs + 1, true
		}
		var n serial
		inTime(t, func() bool {
			s.serial, s.at = before, time.Now()
			_, n, _ = s.last()
			return late || n == before+1
		})
		assert.Equal(t, late, n > before+lapOf(pidMax.get()))
	}
}

// A reading that comes late is near the last anchor while the kernel has worked for less than a lap since.
func TestAnchor(t *testing.T) {
	setPIDMax(t, 32768)
	var stat procfs.KernelStat
	setKernelStat(t, func() (procfs.KernelStat, error) { return stat, nil })
	synctest.Test(t, func(t *testing.T) { // an anchor is fresh for 10 ms, which any machine can take between two lines
		now := 1000
		s := sequence{askedAt: time.Now().Add(time.Hour), read: func() (int, bool) {
			time.Sleep(time.Nanosecond) // a clock that stands still proves nothing
			return now, true
		}}
		_, first, ok := s.anchored()
		require.True(t, ok)
		require.NotZero(t, first)
		lap := lapOf(pidMax.get())

		late := func(pid int) serial {
			now, s.at = pid, time.Now().Add(-time.Hour) // the reading before came long ago
			_, n, ok := s.last()
			require.True(t, ok)
			return n
		}
		assert.Equal(t, first+10, late(1010))
		assert.Equal(t, first+lap-10, late(990), "counted from the anchor, around once")
		stat.System += uint64(lapTime(pidMax.get(), 1) / (10 * time.Millisecond))
		assert.Greater(t, late(1020), first+2*lap, "all PIDs could have been used up")

		_, n, _ := s.anchored()
		assert.Equal(t, first, s.anchor.serial, "it is fresh")
		s.anchor.at = s.anchor.at.Add(-anchorEvery)
		_, _, _ = s.anchored()
		assert.Equal(t, n, s.anchor.serial)
		assert.Equal(t, n+5, late(1025))
		s.anchor.at = s.anchor.at.Add(-anchorAge)
		assert.Greater(t, late(1030), n+2*lap, "it is old")
	})
}

// pid_max was another when it was asked for.
func TestPIDMaxHasChanged(t *testing.T) {
	real := pidMax.get()
	for _, believed := range []int{real / 2, real - 1, real * 2} {
		setPIDMax(t, believed)
		synctest.Test(t, func(t *testing.T) { // it is asked for anew after a second, which any machine can take between two lines
			s := sequence{serial: 12345, at: time.Now(), askedAt: time.Now(), read: func() (int, bool) { return real - 1, true }}
			_, n, ok := s.last()
			require.True(t, ok)
			if believed < real {
				assert.Zero(t, n, "it cannot be told where that is")
			} else {
				assert.Equal(t, believed, pidMax.get(), "nothing speaks against it yet")
				s.askedAt = time.Now().Add(-2 * limitAge)
				_, _, _ = s.last()
			}
			assert.Equal(t, real, pidMax.get())
			s.serial, s.at, s.anchor = 12345, time.Now(), anchor{serial: 12345}
			pidMax.value.Store(int64(believed))
			_, at, limit := s.furthest(time.Now(), 0)
			assert.Zero(t, at, "what was known before is no help")
			assert.Zero(t, s.anchor)
			assert.Equal(t, real, limit)
		})
	}
	setPIDMax(t, 32768)
	b := birth{leader: 1<<22 - 4}
	assert.Contains(t, b.windowList(reservedPIDs+10, pidMax.get()), os.Getpid(), "everybody, as the window reaches who knows where")
}

// A serial that is found too late may be laps off.
func TestPlaceComesTooLate(t *testing.T) {
	skipDisabled(t, "loadavg")
	b := birth{leader: os.Getpid(), started: time.Now().Add(-time.Hour)}
	assert.False(t, b.place())
	assert.Zero(t, b.serial)
}

// While a run goes on the readings do, so that its window stays, and they end with it.
func TestReadingsAreKeptUp(t *testing.T) {
	skipDisabled(t, "loadavg")
	shortLaps(t)
	if readings.every() < shortestTick {
		t.Skip("too many CPUs for so few PIDs")
	}
	inTime(t, func() bool {
		s, _ := placed(t, "fork", "1")
		b := &s.tree.born
		await(t, func() bool { return !b.young() && time.Since(b.started) > 5*readings.every() })
		_, n, _ := pids.last()
		return b.follows(n, pidMax.get())
	})
	var m Mark
	m.Begin()
	readings.keepUp()
	assert.True(t, readings.wanted())
	await(t, func() bool { return !readings.wanted() }) // before the run is over
	m.End()
}

// No reader sees a serial go back beside others, or one that is not its PID's.
func TestSequenceFromManyGoroutines(t *testing.T) {
	skipDisabled(t, "loadavg")
	lap := lapOf(pidMax.get())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var before serial
			for range 2000 {
				pid, n, ok := pids.last()
				if !assert.True(t, ok) {
					return
				}
				if n == 0 {
					continue
				}
				assert.EqualValues(t, pid-reservedPIDs, n%lap)
				assert.GreaterOrEqual(t, n, before)
				before = n
			}
		})
	}
	wg.Wait()
}

// readBefore has the last reading be one of n, made so long ago.
func readBefore(n serial, ago time.Duration) {
	pids.Lock()
	defer pids.Unlock()
	pids.serial, pids.at, pids.anchor = n, time.Now().Add(-ago), anchor{}
}

// inTime tries again until a reading came in time, and not too many others started processes meanwhile.
func inTime(t *testing.T, try func() bool) {
	t.Helper()
	for ctx := testproc.Deadline(t); !try(); {
		require.NoError(t, ctx.Err(), "never in time")
	}
}

// placed starts a command until its leader has a serial.
func placed(t *testing.T, args ...string) (s *subject, born []int) {
	skipDisabled(t, "loadavg")
	for range 20 {
		s = start(t, testproc.Command(args[0], args[1:]...))
		if born = testproc.Ready(t, s.stdout); s.tree.born.serial != 0 {
			return s, born
		}
	}
	t.Skip("the machine is too busy for a serial, or its PIDs are in their first lap")
	return nil, nil
}

// A tree that is long not young any more has its window as long as readings came in time, and no longer.
func TestWindowOfAnOldTree(t *testing.T) {
	var s *subject
	var b *birth
	var born, window []int
	inTime(t, func() bool {
		s, born = placed(t, "fork", "2")
		b = &s.tree.born
		b.started = time.Now().Add(-time.Hour)
		readBefore(b.serial, 0)
		window = b.list()
		return !slices.Contains(window, 1)
	})
	assert.Subset(t, window, born[1:])
	assert.NotContains(t, window, born[0])
	readBefore(b.serial, 0)
	assert.Equal(t, born[1:], s.live())

	readBefore(b.serial, time.Hour)
	assert.Contains(t, b.list(), 1, "everybody is asked")
	assert.Contains(t, b.list(), 1, "once broken the chain does not mend")
	assert.Equal(t, born[1:], s.live())
}

// A look does not check the leaders of other trees; it checks what they start.
func TestWindowWithoutLeaders(t *testing.T) {
	var s, other *subject
	var born, theirs []int
	inTime(t, func() bool {
		s, born = placed(t, "fork", "1")
		readBefore(s.tree.born.serial, 0)
		other, theirs = placed(t, "fork", "1")
		return s.tree.born.follows(other.tree.born.serial, maxLateProbes)
	})
	last, ok := lastPID()
	require.True(t, ok)
	window := s.tree.born.windowList(last, pidMax.get())
	assert.Subset(t, window, append(born[1:], theirs[1:]...))
	assert.NotContains(t, window, theirs[0])
	other.endLeader(t)
	assert.NotContains(t, s.tree.born.windowList(last, pidMax.get()), theirs[0], "nor when it is gone")

	// A number of the lap after is another process's.
	b := birth{leader: theirs[0] - 1, serial: other.tree.born.serial - 1 + lapOf(pidMax.get())}
	assert.Contains(t, b.windowList(theirs[0], pidMax.get()), theirs[0])
}

// setCPUs has the machine have another number of CPUs.
func setCPUs(t *testing.T, n int) {
	before := cpus.get()
	cpus.value.Store(int64(n))
	t.Cleanup(func() { cpus.value.Store(int64(before)) })
}
