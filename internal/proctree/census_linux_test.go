package proctree

import (
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Those who come while a list is made share the next one, and nobody shares the one that was begun before.
func TestOneListForAllWhoWait(t *testing.T) {
	const askers = 20
	c := census{read: (*roll).all, underWay: true}
	lists := make(chan *roll, askers)
	for range askers {
		go func() { lists <- c.take() }()
	}
	var next *roll
	await(t, func() bool {
		c.Lock()
		defer c.Unlock()
		next = c.next
		return next != nil && next.users.Load() == askers
	})
	assert.Empty(t, lists)
	first := new(roll)
	c.make(first)
	assert.Contains(t, first.pids, os.Getpid())
	for range askers {
		r := <-lists
		assert.Same(t, next, r)
		assert.Contains(t, r.pids, os.Getpid())
	}
	assert.False(t, c.underWay)
	for range askers {
		next.release()
	}
	assert.Zero(t, next.users.Load())

	alone := c.take()
	assert.Contains(t, alone.pids, os.Getpid())
	alone.release()
}

// Whoever lives when a list is asked for is on it, however many ask at that moment.
func TestListIsBegunAfterTheQuestion(t *testing.T) {
	const askers, rounds = 8, 40
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for range rounds {
				cmd := exec.Command("/bin/cat")
				stdin, err := cmd.StdinPipe()
				if !assert.NoError(t, err) || !assert.NoError(t, cmd.Start()) {
					return
				}
				r := everybody.take()
				assert.Contains(t, r.pids, cmd.Process.Pid)
				r.release()
				assert.NoError(t, stdin.Close())
				assert.NoError(t, cmd.Wait())
			}
		})
	}
	wg.Wait()
}

// Of the processes of other runs a look asks nobody; those without a mark, its own, and those whose run is over,
// it does.
func TestOthersAreLeftOut(t *testing.T) {
	ours, theirs := start(t, testproc.Command("fork", "1")), start(t, testproc.Command("fork", "1"))
	born, others := testproc.Ready(t, ours.stdout), testproc.Ready(t, theirs.stdout)
	if ours.tree.mark.tracks&TrackLimit == 0 || theirs.tree.mark.tracks&TrackLimit == 0 {
		t.Skip("there is no limit mark")
	}
	asked := func() (pids []int) {
		r := everybody.take()
		defer r.release()
		r.each(&ours.tree, func(pid int, _ origin) { pids = append(pids, pid) })
		return pids
	}
	pids := asked()
	assert.Subset(t, pids, append(born, os.Getpid(), 1))
	assert.False(t, slices.ContainsFunc(others, func(pid int) bool { return slices.Contains(pids, pid) }))
	everyPID(nil, func(pid int, _ origin) { pids = append(pids, pid) }, 0)
	assert.Subset(t, pids, others, "who asks for all is told all")

	other := theirs.tree.mark
	marks := ours.tree.mark.tracks
	ours.tree.mark.tracks &^= TrackLimit
	assert.Subset(t, asked(), others, "without a mark of our own it tells nothing")
	ours.tree.mark.tracks = marks

	extra := new(Mark) // or one run is left, and no marks are read
	extra.Begin()
	defer extra.End()
	other.End()
	assert.Subset(t, asked(), others, "nobody else ends them")
}
