package proctree

import (
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Marks are read once for all looks that share a list, and not for one that asks alone.
func TestMarksOnASharedList(t *testing.T) {
	var r roll
	r.all(0)
	assert.Contains(t, r.pids, os.Getpid())
	assert.Empty(t, r.bearers)
	r.all(1)
	assert.Len(t, r.bearers, len(r.pids))
}

// takeList is a list of all processes, and how to give it back.
func takeList(t *testing.T) (*roll, func()) {
	list, _ := everybody.Take(time.Now().Add(time.Hour))
	assert.NotNil(t, list)
	return &list.Of, list.Release
}

// A list may be made in a bubble whose channels and clock nothing outside can use.
func TestListsAndTurnsInABubble(t *testing.T) {
	askAll := func() {
		together(4*maxStarting, func(m *Mark) {
			m.TakeTurn(nil, time.Time{})
			_, release := takeList(t)
			release()
		})
	}
	for range 3 {
		for range maxStarting { // so that one waits
			starting <- struct{}{}
		}
		time.AfterFunc(time.Millisecond, func() {
			for range maxStarting {
				<-starting
			}
		})
		synctest.Test(t, func(t *testing.T) {
			assert.True(t, inBubble())
			askAll()
		})
		askAll()
	}
	assert.False(t, inBubble())
	await(t, func() bool { return !stalls.armed.Load() })
}

// A process that is alive when a list is asked for is on it, however many ask at that moment.
func TestListIsBegunAfterTheQuestion(t *testing.T) {
	const askers = 8
	rounds := 40
	if testproc.Emulated() {
		rounds = 4
	}
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for range rounds {
				cmd := exec.Command("/bin/cat")
				stdin, err := cmd.StdinPipe()
				if !assert.NoError(t, err) || !assert.NoError(t, cmd.Start()) {
					return
				}
				r, release := takeList(t)
				assert.Contains(t, r.pids, cmd.Process.Pid)
				release()
				assert.NoError(t, stdin.Close())
				assert.NoError(t, cmd.Wait())
			}
		})
	}
	wg.Wait()
}

// A look that is cut short has told of those first who were born after the leader, and of all who are in its group.
func TestYoungestFirst(t *testing.T) {
	r := roll{}
	for pid := 1; pid <= 200; pid++ {
		r.pids = append(r.pids, pid)
	}
	for leader, first := range map[int]int{0: 1, 1: 2, 150: 151, 199: 200, 200: 1, 300: 1} {
		var told []int
		last := (first+197)%200 + 1
		l := &watcher{isLate: func() bool { return len(told) > 100 }, group: []int{first, last}}
		assert.False(t, r.each(l, func(pid int, _ origin) { told = append(told, pid) }, leader))
		require.Len(t, told, 127+1, "it is asked at every 64th")
		require.Equal(t, last, told[127], "leader %d", leader)
		for i, pid := range told[:127] {
			require.Equal(t, (first-1+i)%200+1, pid, "leader %d", leader)
		}
		told = nil
		assert.True(t, r.each(nil, func(pid int, _ origin) { told = append(told, pid) }, leader))
		assert.ElementsMatch(t, r.pids, told)
	}
}

// A look checks no process of other runs, and none without a mark. It checks its own, those that bear one mark alone,
// and those whose run is over.
func TestOthersAreLeftOut(t *testing.T) {
	testproc.HasProgram(t, "prlimit")
	// After it was marked. The last one sheds the limit and leaves the session.
	const script = `sleep 600 & prlimit --rttime=unlimited: setsid sh -c "echo ready $$ $! \$\$; exec sleep 600" & wait`
	ours, theirs := startGated(t, script), startGated(t, script)
	born, others := testproc.Ready(t, ours.stdout), testproc.Ready(t, theirs.stdout)[:2]
	if ours.tree.mark.tracks&TrackLimit == 0 || theirs.tree.mark.tracks&TrackLimit == 0 {
		t.Skip("there is no limit mark")
	}
	stranger := exec.Command("sleep", "600")
	require.NoError(t, stranger.Start())
	defer func() { _, _ = stranger.Process.Kill(), stranger.Wait() }()
	asked := func() (pids []int) {
		var r roll
		r.all(1)
		ours.tree.lookEnds = time.Time{} // of the look that was made before it was marked
		r.each(&ours.tree, func(pid int, _ origin) { pids = append(pids, pid) }, 0)
		return pids
	}
	pids := asked()
	assert.Subset(t, pids, born)
	told := ours.tree.mark.tracks&TrackSlice != 0
	assert.Equal(t, !told, slices.Contains(pids, stranger.Process.Pid), "where the slice does not tell, the parent has to")
	assert.False(t, slices.ContainsFunc(others, func(pid int) bool { return slices.Contains(pids, pid) }))
	everyPID(nil, func(pid int, _ origin) { pids = append(pids, pid) }, 0, 0)
	assert.Subset(t, pids, others, "who asks for all is told all")

	other := theirs.tree.mark
	marks := ours.tree.mark.tracks
	ours.tree.mark.tracks &^= TrackLimit
	assert.Subset(t, asked(), others, "without a mark of our own it tells nothing")
	ours.tree.mark.tracks = marks

	other.End()
	assert.Subset(t, asked(), others, "nobody else ends them")
}

// However late a look is, it knows all of the leader's group, who are signaled by number.
func TestLateLookKnowsTheGroup(t *testing.T) {
	s := startGated(t, `exec 3<&0; while [ $# -lt 100 ]; do read never <&3 & set -- "$@" $!; done; echo ready "$@"; wait`)
	born := testproc.Ready(t, s.stdout)
	require.Len(t, born, 100)
	s.tree.lookEnds = time.Unix(1, 0)
	require.True(t, s.tree.late())
	r, release := takeList(t)
	defer release()
	r.each(&s.tree, s.tree.consider, s.tree.leader)
	assert.Subset(t, pidsOf(s.tree.list()), born)
}

// The second list of a look that is late by then is not refused: without it the first proves nothing.
func TestLateLookHasASecondList(t *testing.T) {
	defer func(read func(*roll, int)) { everybody.Read = read }(everybody.Read)
	read := everybody.Read
	everybody.Read = func(r *roll, others int) {
		time.Sleep(5 * time.Millisecond)
		read(r, others)
	}
	l := &watcher{visit: func(int, origin) {}, past: true}
	inTime(t, func() bool { // a busy machine may take longer than it waits
		whole, _ := everyPID(l, l.consider, 0, pidMax.get())
		return whole
	})
}

// A look that got its list late, since others made theirs, goes through it all the same.
func TestWaitForAListIsNotTheLooks(t *testing.T) {
	defer func(read func(*roll, int)) { everybody.Read = read }(everybody.Read)
	begun, goOn := make(chan struct{}), make(chan struct{})
	everybody.Read = func(r *roll, _ int) {
		*r = roll{}
		begun <- struct{}{}
		<-goOn
		for pid := 1; pid <= 200; pid++ {
			r.pids = append(r.pids, pid)
		}
	}
	go func() {
		_, release := takeList(t)
		release()
	}()
	<-begun
	told, whole := 0, make(chan bool)
	l := &watcher{visit: func(int, origin) { told++ }}
	l.isLate = func() bool { return l.lists == 0 } // its time passes while it waits
	go func() {
		all, _ := everyPID(l, l.consider, 0, pidMax.get())
		whole <- all
	}()
	await(t, func() bool { return everybody.Waiting() == 1 })
	goOn <- struct{}{}
	<-begun
	goOn <- struct{}{}
	assert.True(t, <-whole)
	assert.Equal(t, 200, told)

	var tree Tree
	tree.allot(time.Time{})
	own := tree.lookEnds
	assert.Equal(t, own.Add(lookTime), tree.patience())
	tree.waited(time.Millisecond)
	assert.Equal(t, own.Add(time.Millisecond), tree.lookEnds)
	assert.Equal(t, tree.lookEnds, tree.patience())
	tree.waited(time.Millisecond)
	assert.Equal(t, own.Add(time.Millisecond), tree.lookEnds, "once in a look: it may take several lists")
	tree.allot(time.Time{})
	own = tree.lookEnds
	tree.waited(time.Minute)
	assert.Equal(t, own.Add(lookTime), tree.lookEnds, "no more than that is in the bound")
	tree.allot(own.Add(time.Hour))
	tree.waited(time.Minute)
	assert.Equal(t, own.Add(time.Hour), tree.lookEnds, "its bound leaves room for that")
}

// A counter is a track that counts how often the first process is asked, and everybody with it.
type counter struct{ passes *int }

func (t counter) judge(c *candidate) verdict {
	if c.pid == 1 {
		*t.passes++
	}
	return unknown
}

// Instead of a list that cannot be had, each number is asked for, once, as long as there are few: that is what one
// failing getdents64(2) costs. Another look is necessary only where there are too many numbers.
func TestListThatFailsOnce(t *testing.T) {
	defer func(read func(*roll, int)) { everybody.Read = read }(everybody.Read)
	few := pidMax.get() <= maxProbes
	s := startGated(t, `(setsid sh -c 'echo ready $$; exec sleep 600' &); exit 0`)
	daemon := testproc.Ready(t, s.stdout)[0]
	s.tree.WaitLeader()
	for _, alive := range []bool{true, false} {
		if !alive {
			require.NoError(t, syscall.Kill(daemon, syscall.SIGKILL))
			waitDead(t, daemon)
		}
		inTime(t, func() bool {
			lists, passes, looks, unheard := 0, 0, 0, false
			everybody.Read = func(r *roll, others int) {
				r.all(others)
				if lists++; lists == 1 {
					r.pids, r.bearers, r.err = r.pids[:0], r.bearers[:0], syscall.ENOMEM
				}
			}
			s.tree.Close() // it knows nobody
			s.tree.born.started, s.tree.born.serial = time.Now().Add(-time.Hour), 0
			s.tree.Until(time.Now().Add(time.Hour)) // whose looks need not keep to time
			tracks := s.tree.tracks
			s.tree.tracks = append([]track{counter{&passes}}, tracks...)
			var found []*Member
			for sure := false; !sure; looks++ {
				found, sure = s.tree.Live()
				unheard = unheard || s.tree.unheard
			}
			s.tree.tracks = tracks
			if unheard { // of a process, in time, on a busy machine: another look was necessary for that
				return false
			}
			if few {
				assert.Equal(t, 1, looks)
				assert.Equal(t, lists, passes, "the numbers once, and each list")
			} else {
				assert.Equal(t, 2, looks)
				assert.Equal(t, lists-1, passes, "each list")
			}
			assert.Equal(t, alive, slices.Equal([]int{daemon}, pidsOf(found)))
			t.Logf("%d looks, %d lists", looks, lists)
			return true
		})
	}
}

// A list that was made by a thread to which /proc is another namespace's is none for a thread that has our own: that one
// makes a list itself.
func TestListOfAnotherNamespace(t *testing.T) {
	defer func(before func() bool) { isForeign = before }(isForeign)
	var asked atomic.Int32
	for _, tt := range []struct {
		name  string
		mine  bool
		whole bool
	}{{"to the maker of the list", true, true}, {"to the one that asks", false, pidMax.get() <= maxProbes}} {
		asked.Store(0)
		isForeign = func() bool { return asked.Add(1) == 1 || !tt.mine }
		found := false
		whole, _ := everyPID(nil, func(pid int, _ origin) { found = found || pid == os.Getpid() }, 1, pidMax.get())
		assert.Equal(t, tt.whole, whole, tt.name)
		assert.Equal(t, tt.whole, found, tt.name)
		assert.Equal(t, int32(2), asked.Load(), tt.name)
	}
}
