package escalate

import (
	"math"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestZeroLadder(t *testing.T) {
	var l Ladder
	_, ok := l.Next(time.Now())
	assert.False(t, ok)
	assert.Zero(t, l.Until())
}

func TestLadderInOrder(t *testing.T) {
	term := Rung{Signal: syscall.SIGTERM, Wait: 5 * time.Second}
	kill := Rung{Signal: syscall.SIGKILL, Wait: 2 * time.Second}
	l := New(term, kill)
	start := time.Unix(1000, 0)
	assert.Zero(t, l.Until(), "no rung was taken")

	r, ok := l.Next(start)
	require.True(t, ok)
	assert.Equal(t, term, r)
	assert.Equal(t, start.Add(5*time.Second), l.Until())

	// The next wait begins when the rung is taken, early or late.
	r, ok = l.Next(start.Add(time.Second))
	require.True(t, ok)
	assert.Equal(t, kill, r)
	assert.Equal(t, start.Add(3*time.Second), l.Until())

	for range 2 {
		r, ok = l.Next(start.Add(time.Hour))
		assert.False(t, ok)
		assert.Zero(t, r)
		assert.Equal(t, start.Add(3*time.Second), l.Until(), "the top of the ladder moves no bound")
	}
}

func TestRungsWithoutSignalAreLeftOut(t *testing.T) {
	l := New(Rung{Wait: time.Hour}, Rung{Signal: syscall.SIGKILL, Wait: time.Second}, Rung{Wait: time.Hour})
	r, ok := l.Next(time.Now())
	require.True(t, ok)
	assert.Equal(t, syscall.SIGKILL, r.Signal)
	_, ok = l.Next(time.Now())
	assert.False(t, ok)

	_, ok = New(Rung{}, Rung{}).Next(time.Now())
	assert.False(t, ok)
	_, ok = New().Next(time.Now())
	assert.False(t, ok)
}

// The caller's slice is not the ladder's: one table of rungs serves many runs.
func TestLadderKeepsItsOwnRungs(t *testing.T) {
	rungs := []Rung{{Wait: time.Minute}, {Signal: syscall.SIGINT, Wait: 1}, {Signal: syscall.SIGKILL, Wait: 2}}
	want := append([]Rung(nil), rungs...)
	l := New(rungs...)
	assert.Equal(t, want, rungs)
	rungs[1].Signal = syscall.SIGHUP
	r, _ := l.Next(time.Now())
	assert.Equal(t, syscall.SIGINT, r.Signal)
}

func TestRungWithoutWait(t *testing.T) {
	now := time.Unix(5, 0)
	l := New(Rung{Signal: syscall.SIGTERM})
	_, ok := l.Next(now)
	require.True(t, ok, "a signal that nothing is waited for is sent all the same")
	assert.Equal(t, now, l.Until())
}

// The ladder climbed as a run does it: never later than the sum of the waits, whatever they are.
func TestClimb(t *testing.T) {
	for _, waits := range [][]time.Duration{
		{0, 0}, {5 * time.Second, 2 * time.Second}, {0, time.Second}, {1, 1}, {24 * 365 * time.Hour, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := New(Rung{Signal: syscall.SIGTERM, Wait: waits[0]}, Rung{Signal: syscall.SIGKILL, Wait: waits[1]})
			start := time.Now()
			var sent []syscall.Signal
			for {
				r, ok := l.Next(time.Now())
				if !ok {
					break
				}
				sent = append(sent, r.Signal)
				time.Sleep(time.Until(l.Until()))
			}
			assert.Equal(t, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}, sent)
			assert.Equal(t, waits[0]+waits[1], time.Since(start))
		})
	}
}

// The waits come from options without an upper end.
func TestLongestWait(t *testing.T) {
	l := New(Rung{Signal: syscall.SIGTERM, Wait: math.MaxInt64})
	now := time.Now()
	_, ok := l.Next(now)
	require.True(t, ok)
	assert.True(t, l.Until().After(now.Add(250*365*24*time.Hour)))
}

func TestBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		assert.Equal(t, now.Add(5*time.Second), Before(now.Add(10*time.Second)))
		assert.False(t, Before(now.Add(-time.Second)).After(now), "nothing is left")
	})
}
