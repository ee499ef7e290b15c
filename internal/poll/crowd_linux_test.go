package poll

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// places is how many make no crowd.
func places() int { return max(runtime.GOMAXPROCS(0), 1) }

func crowded() bool { return recent.overfull(tickOf(time.Now())) }

func TestCrowd(t *testing.T) {
	const at = 1<<32 - 2 // the ticks come around meanwhile
	var c crowd
	for range places() {
		c.come(at)
	}
	assert.False(t, c.overfull(at), "one for each processor")
	second := tick(at)
	second++
	c.come(second)
	assert.True(t, c.overfull(second))
	assert.True(t, c.overfull(second+youth-2))
	assert.False(t, c.overfull(second+youth-1), "the first are of it no more")

	c.leave(second)
	assert.False(t, c.overfull(second))
	c.leave(second)
	c.come(second)
	assert.True(t, c.overfull(second), "nobody leaves who did not come")

	for range places() + 1 {
		c.come(second + youth) // to the place of those of the second
	}
	c.leave(second)
	assert.True(t, c.overfull(second+youth), "who was forgotten can not leave")
	c.leave(second + youth)
	assert.False(t, c.overfull(second+youth+youth-1))
}

func TestCrowdOfManyGoroutines(t *testing.T) {
	var c crowd
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 1000 {
				came := tickOf(time.Now())
				c.come(came)
				c.leave(came)
			}
		})
	}
	all.Wait()
	for i := range c.cells {
		_, count := parts(c.cells[i].Load())
		assert.Zero(t, count)
	}
}

// Those are counted whose pollers are lent.
func TestCrowdIsOfPollers(t *testing.T) {
	skipDisabled(t, "epoll")
	testproc.NoLeaks(t)
	testproc.Wait(t, func() bool { // in time, if the machine lets us
		var pollers []Poller
		for range places() + 1 {
			p, err := newNative()
			require.NoError(t, err)
			pollers = append(pollers, p)
		}
		full := crowded()
		for _, p := range pollers {
			p.Close()
		}
		require.False(t, crowded())
		return full
	})
	p, err := newNative()
	require.NoError(t, err)
	defer p.Close()
	assert.False(t, crowded(), "there is a processor for one")
}

// Whoever waits in a crowd lets others run, and does not need the runtime's poller to be told.
func TestTurnsInACrowd(t *testing.T) {
	p := onEpoll(t)
	pipe := newPipe(t, Read)
	require.NoError(t, p.Add(pipe.r, Read, 1))
	var stop, readable atomic.Bool
	var others sync.WaitGroup
	for range runtime.GOMAXPROCS(0) + 1 {
		others.Go(func() {
			for !stop.Load() {
				for began := time.Now(); time.Since(began) < 10*shortestTurn; {
				}
				if readable.CompareAndSwap(false, true) {
					pipe.write(t, "x")
				}
				runtime.Gosched()
			}
		})
	}
	defer others.Wait()
	defer stop.Store(true)
	testproc.Wait(t, func() bool {
		p.came = tickOf(time.Now())
		for range places() + 1 {
			recent.come(p.came)
			defer recent.leave(p.came)
		}
		return p.takeTurns(never)
	})
	assert.Equal(t, []Event{{Token: 1, Ready: true}}, p.events[:p.n])
}

// Nobody waits in turn for whom there is a processor, or no time.
func TestNoTurns(t *testing.T) {
	p := onEpoll(t)
	pipe := newPipe(t, Read)
	require.NoError(t, p.Add(pipe.r, Read, 1))
	pipe.write(t, "x")
	p.came = tickOf(time.Now())
	assert.False(t, p.takeTurns(never), "nobody else is here")
	for range places() + 1 {
		recent.come(p.came)
		defer recent.leave(p.came)
	}
	assert.False(t, p.takeTurns(time.Now().Add(longestTurn/2)), "the deadline may pass in a turn")
	p.woken.Store(true)
	assert.False(t, p.takeTurns(never), "woken")
	p.woken.Store(false)
	p.came -= youth
	assert.False(t, p.takeTurns(never), "here for long")
}

// Where a turn takes long nobody takes one for a while, and whoever comes does so only where turns are known to be
// quick: his timeout passes.
func TestTurnsAmongThoseWhoCompute(t *testing.T) {
	var stop atomic.Bool
	var others sync.WaitGroup
	defer others.Wait()
	defer stop.Store(true)
	compute := func(each time.Duration) {
		for range 4 * places() {
			others.Go(func() {
				for !stop.Load() {
					for began := time.Now(); time.Since(began) < each && !stop.Load(); {
					}
					runtime.Gosched()
				}
			})
		}
	}
	var c crowd
	now := func() tick { return tickOf(time.Now()) }
	full := func() (came tick) {
		came = now()
		for range places() + 1 {
			c.come(came)
		}
		return came
	}
	assert.False(t, c.isSlow(now()))
	began := time.Now()
	compute(longestTurn)
	c.giveWay(full())
	assert.Zero(t, c.quick.Load(), "not known to be quick")
	assert.Zero(t, c.slow.Load())
	testproc.Wait(t, func() bool { return !c.turn(now()) && c.slow.Load() != 0 })
	slow := tick(c.slow.Load())
	for at, want := range map[tick]bool{slow: true, slow - 1: true, slow + slowHolds - 1: true, slow + slowHolds: false} {
		assert.Equal(t, want, c.isSlow(at))
	}
	t.Log(time.Since(began))

	stop.Store(true)
	others.Wait()
	stop.Store(false)
	compute(10 * shortestTurn)
	c.slow.Store(uint32(now()))
	assert.False(t, c.turn(now()), "one was slow")
	c.slow.Store(uint32(now() - slowHolds))
	testproc.Wait(t, func() bool { return c.turn(now()) })
	assert.NotZero(t, c.quick.Load())
	gaveWay := func() bool {
		came := full()
		before := uint32(came - quickHolds/2)
		c.quick.Store(before)
		c.giveWay(came)
		return c.quick.Load() != before
	}
	c.slow.Store(uint32(now()))
	assert.False(t, gaveWay(), "one was slow")
	c.slow.Store(uint32(now() - slowHolds))
	testproc.Wait(t, gaveWay)
}
