//go:build linux

package zoo_test

import (
	"errors"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// manyBirths as the size of a specimen is as many processes as births returns, one after the other.
const manyBirths = -1

// births is what a storm rests after. In short mode that is sooner, for the sake of PID 1: where it does
// not reap, a dozen storms are most of the numbers that a machine has.
func births() int {
	if testing.Short() {
		return 500
	}
	return 4000
}

// TestZooStorm ends trees that go on forking at two births a millisecond.
func TestZooStorm(t *testing.T) {
	storm := specimen{kind: "storms", n: manyBirths, seen: byEnvironment, moves: true}
	onEachRung(t, func(t *testing.T, r rung) {
		for i := range testproc.Rounds(2) {
			t.Run(strconv.Itoa(i), func(t *testing.T) { storm.run(t, r, bothWays[i%2]) })
		}
	})
}

// atOnce is how many instant escapees are started at the same time, which gives each the most time
// until it is marked.
const atOnce = 16

// TestZooInstant runs a static program that overwrites its environment, leaves the session and forks
// twice, all within the first of its microseconds.
func TestZooInstant(t *testing.T) {
	skipShort(t)
	onEachRung(t, func(t *testing.T, r rung) {
		program := testproc.EscapeeProgram(t)
		before := testproc.NewBystander(t, program)
		atBirth := r.atBirth(t)
		n, survived := testproc.Rounds(8), 0
		if !atBirth {
			n = testproc.Rounds(2) // for the figure
		}
		for i := range n {
			t.Run(strconv.Itoa(i), func(t *testing.T) { survived += instantRound(t, program, r) })
		}
		t.Logf("%d of %d instant escapees survived", survived, n*atOnce)
		if atBirth {
			assert.Zero(t, survived)
		}
		before.Untouched(t)
	})
}

// instantRound returns how many are alive when their runs have returned without a word of it. They are ended with the
// test.
func instantRound(t *testing.T, program string, r rung) (survived int) {
	var canaries [atOnce]*testproc.Canary
	var unseen [atOnce]bool // on a machine that is too busy for a look to be believed
	var starting sync.WaitGroup
	for i := range canaries {
		cmd := exec.Command(program, "instant", string(leave))
		canaries[i] = testproc.WithCanary(t, cmd)
		opts := append([]safeexec.Option{
			safeexec.WithLinger(0), safeexec.WithGracePeriod(50 * time.Millisecond), safeexec.WithDrainTimeout(50 * time.Millisecond),
		}, r.opts...)
		starting.Go(func() {
			res, err := safeexec.Run(testproc.Deadline(t), cmd, opts...)
			unseen[i] = errors.Is(err, safeexec.ErrTreeUnseen)
			if err != nil && !unseen[i] && !errors.Is(err, safeexec.ErrPipeHeld) {
				t.Errorf("%v: %+v", err, res)
			}
		})
	}
	starting.Wait()
	for i, canary := range canaries {
		canary.CloseParent()
		if len(canary.Living()) > 0 && !unseen[i] {
			survived++
		}
	}
	return survived
}
