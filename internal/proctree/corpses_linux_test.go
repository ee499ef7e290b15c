package proctree

import (
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// bury returns corpses with the given numbers, of a moment when last had just been given out.
func bury(last int, started time.Time, pids ...int) corpses {
	c := corpses{since: birth{leader: last, started: started}}
	for _, pid := range pids {
		c.add(pid)
	}
	return c
}

// A number that was given out since it was a zombie's is another process's now.
func TestNumberGivenOutAnewIsNoCorpse(t *testing.T) {
	s := start(t, testproc.Command("fork", "3"))
	pids := testproc.Ready(t, s.stdout)
	children := slices.Sorted(slices.Values(pids[1:]))
	require.Equal(t, children, s.live())
	if _, known := lastPID(); !known {
		t.Skip("needs the last PID")
	}
	for name, before := range map[string]corpses{
		"since":      bury(pids[0], time.Now(), children...), // the leader was the last one then
		"a lap":      bury(slices.Max(pids), time.Now().Add(-time.Hour), children...),
		"not known":  bury(0, time.Now(), children...),
		"one of all": bury(children[1]-1, time.Now(), children[1]),
	} {
		s.tree.Close()
		s.tree.corpses = before
		assert.Equal(t, children, s.live(), name)
	}

	unknown := bury(0, time.Now(), children...)
	assert.False(t, unknown.has(children[0]), "nothing is recorded where it is not known what was given out last")

	// A process born while the look is under way is checked, whatever was known of the number.
	s.tree.Close()
	s.tree.corpses = bury(slices.Max(pids), time.Now(), children[2])
	s.tree.considerNew(children[2], birthWindow)
	assert.Contains(t, s.tree.members, children[2])
}

func TestBetween(t *testing.T) {
	for _, tt := range []struct {
		first, pid, last int
		want             bool
	}{
		{10, 10, 20, false},
		{10, 11, 20, true},
		{10, 20, 20, true},
		{10, 21, 20, false},
		{30, 31, 20, true}, // wrapped around
		{30, 1, 20, true},
		{30, 20, 20, true},
		{30, 21, 20, false},
		{30, 30, 20, false},
		{30, 30, 30, false}, // nobody
	} {
		assert.Equal(t, tt.want, between(tt.first, tt.pid, tt.last), tt)
	}
}

// Processes that have exited and are not reaped are checked once, whether they were known before or not.
func TestCorpsesAreAskedOnce(t *testing.T) {
	s := start(t, exec.Command("sh", "-c", "sleep 600 & sleep 600 & echo ready $$ $!; exec sleep 601"))
	pids := testproc.Ready(t, s.stdout)
	if _, known := lastPID(); !known || testproc.IsDisabled("pidfd") {
		t.Skip("needs the last PID and pidfds")
	}
	testproc.WaitComm(t, pids[0], "sleep") // until then it is a shell, which reaps
	members := s.live()
	require.Len(t, members, 2)
	for _, m := range s.tree.members {
		require.NoError(t, s.tree.Signal(m, syscall.SIGKILL))
	}
	for _, pid := range members {
		testproc.WaitState(t, pid, "Z")
	}
	s.tree.All()
	for _, pid := range members {
		assert.True(t, s.tree.corpses.has(pid))
	}

	s.tree.Close()
	s.tree.killing = true
	s.tree.corpses.look()
	for _, pid := range members { // too many for pidfds, as it were
		s.tree.members = map[int]*Member{pid: {Process: Inspect(pid), FD: -1}}
		s.tree.forgetDead()
		assert.Empty(t, s.tree.members)
		assert.True(t, s.tree.corpses.has(pid))
	}
}

// A number that was given out before the reading of a list is struck off before the list is gone through: what the look
// checks at its end is given out after that reading.
func TestCorpsesAreStruckOffAfterTheReading(t *testing.T) {
	skipDisabled(t, "loadavg")
	defer func(read func(*roll, int)) { everybody.Read = read }(everybody.Read)
	read := everybody.Read
	everybody.Read = func(r *roll, others int) {
		burn(t, 1)
		read(r, others)
	}
	inTime(t, func() bool {
		struck := 0
		l := &watcher{visit: func(int, origin) {}, begins: func() { struck, _ = lastPID() }}
		whole, at := everyPID(l, l.consider, 0, pidMax.get())
		require.True(t, whole)
		if struck < at.last.leader-1000 {
			return false // the sequence has wrapped around
		}
		assert.GreaterOrEqual(t, struck, at.last.leader)
		return true
	})
}
