package proctree

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// setPIDMax has the sequence believe in another pid_max.
func setPIDMax(t *testing.T, n int) {
	before := pidMax.get()
	pidMax.value.Store(int64(n))
	t.Cleanup(func() { pidMax.value.Store(int64(before)) })
}

func TestSequence(t *testing.T) {
	const lap = 1000
	setPIDMax(t, reservedPIDs+lap)
	now := time.Now()
	var s sequence
	first := s.follow(0, false, reservedPIDs+10, now)
	require.NotZero(t, first)
	assert.EqualValues(t, 10, first%lap)

	assert.Equal(t, first, s.follow(first, true, reservedPIDs+10, now), "none was handed out")
	n := first
	for range 100 { // many laps, in readings that come in time
		step := rand.IntN(lap * 3 / 4)
		pid := reservedPIDs + (int(n)+step)%lap
		next := s.follow(n, true, pid, now)
		require.Equal(t, n+serial(step), next)
		assert.Equal(t, n, next.before(reservedPIDs+int(n%lap), pid))
		n = next
	}

	assert.Zero(t, s.follow(n, true, reservedPIDs-1, now), "a first lap")
	assert.Zero(t, s.follow(n, true, reservedPIDs+lap, now), "pid_max was raised")
	assert.Zero(t, n.before(reservedPIDs-1, reservedPIDs+int(n%lap)))
	assert.Zero(t, serial(0).before(reservedPIDs+1, reservedPIDs+2))

	// Too late: further on than any window goes, and at the same place.
	later := s.follow(n, false, reservedPIDs+int(n%lap), now)
	assert.Greater(t, later, n+lap)
	assert.Equal(t, n%lap, later%lap)
	assert.Zero(t, s.follow(n, false, reservedPIDs+5, now), "somebody else was late first")
	// Who read before that is right about what he knew, and changes nothing.
	assert.Equal(t, n+1, s.follow(n, true, reservedPIDs+int((n+1)%lap), now.Add(time.Hour)))
	assert.Equal(t, later, s.serial)
	assert.Equal(t, now, s.at)
}

// Nobody who reads along with others sees a serial go back, or one that is not its PID's.
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
	pids.serial, pids.at = n, time.Now().Add(-ago)
}

// inTime tries again until a reading came in time, and not too many others started processes meanwhile.
func inTime(t *testing.T, try func() bool) {
	t.Helper()
	for began := time.Now(); !try(); {
		require.Less(t, time.Since(began), 20*time.Second)
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

// The leaders of other trees are nobody that a look asks; those whom they start are.
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

	// A number of the lap after is somebody else's.
	b := birth{leader: theirs[0] - 1, serial: other.tree.born.serial - 1 + lapOf(pidMax.get())}
	assert.Contains(t, b.windowList(theirs[0], pidMax.get()), theirs[0])
}
