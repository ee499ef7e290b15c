package poll

import (
	"runtime"
	"sync/atomic"
	"time"
)

// A crowd counts the pollers that were lent a short while ago and are not back.
//
// The Go runtime asks its own poller who is ready when it has nothing else to do, and otherwise every 10 ms. Where
// more short commands run at once than there are processors, something else is always to be done: to start the
// next. Then one goroutine has run after run to itself, as long as it need not wait, and who waits for an exit is
// told of it late. So as long as there is a crowd, whoever of it waits lets the others run and looks again, instead of
// being parked, and whoever comes lets those run who are there. With 16 at once that halves the 99th
// percentile. Who stays for longer is not of the crowd any more: thousands that sleep cost nothing.
//
// A turn can take long where goroutines compute, up to 10 ms for each of them. Then nobody takes turns for a while.
type crowd struct {
	cells [youth]atomic.Uint64 // by tick: the tick, and how many came in it and are not back

	quick atomic.Uint32 // the tick in which a turn was over soon, last
	slow  atomic.Uint32 // the tick in which one was not, last
}

// A tick is a time in milliseconds. It comes around after 49 days.
type tick uint32

const (
	youth       = 4                    // for how many ticks one is of the crowd
	quickHolds  = 16                   // for how many ticks a turn is taken for quick after one that was
	slowHolds   = 100                  // for how many ticks none is taken after one that was slow
	longestTurn = 8 * time.Millisecond // the Go runtime lets a goroutine compute for 10
	// shortestTurn is less than anybody else runs for: so soon is one back where nobody else wants to run.
	shortestTurn = 5 * time.Microsecond
)

var recent crowd

var firstTick = time.Now()

// tickOf begins behind all that holds for a while, so that tick 0 is long ago.
func tickOf(t time.Time) tick { return tick(t.Sub(firstTick)/time.Millisecond) + slowHolds }

func cell(at tick, count uint32) uint64 { return uint64(at)<<32 | uint64(count) }

func parts(cell uint64) (at tick, count uint32) { return tick(cell >> 32), uint32(cell) }

// come counts one more, and forgets those of long ago who have the place.
func (c *crowd) come(now tick) {
	for place := &c.cells[now%youth]; ; {
		had := place.Load()
		at, count := parts(had)
		if at != now {
			count = 0
		}
		if place.CompareAndSwap(had, cell(now, count+1)) {
			return
		}
	}
}

// leave counts one less of those who came then, unless they are forgotten.
func (c *crowd) leave(came tick) {
	for place := &c.cells[came%youth]; ; {
		had := place.Load()
		at, count := parts(had)
		if at != came || count == 0 || place.CompareAndSwap(had, cell(came, count-1)) {
			return
		}
	}
}

// overfull reports whether there are more than can run at once.
func (c *crowd) overfull(now tick) bool {
	var sum uint32
	for i := range c.cells {
		if at, count := parts(c.cells[i].Load()); now-at < youth {
			sum += count
		}
	}
	return sum > 1 && sum > uint32(runtime.GOMAXPROCS(0))
}

// giveWay lets those run who are there before one who comes, if that is known to be over soon: who comes has not
// begun, and has a timeout that passes.
func (c *crowd) giveWay(came tick) {
	if c.overfull(came) && came-tick(c.quick.Load()) < quickHolds {
		c.turn(came)
	}
}

// isSlow is asked with a time that others may be ahead of by now.
func (c *crowd) isSlow(now tick) bool {
	since := int32(now - tick(c.slow.Load()))
	return -slowHolds < since && since < slowHolds
}

// turn lets the others run, and reports whether there were any and it was over soon.
func (c *crowd) turn(now tick) bool {
	if c.isSlow(now) {
		return false
	}
	began := time.Now()
	runtime.Gosched()
	end := time.Now()
	switch took := end.Sub(began); {
	case took < shortestTurn:
		return false
	case took > longestTurn:
		c.slow.Store(uint32(tickOf(end)))
		return false
	}
	c.quick.Store(uint32(tickOf(end)))
	return true
}

// takeTurns looks for what is ready as long as p is of a crowd, the others running in between, and reports whether
// there is something. If not, p is to be parked.
func (p *epoll) takeTurns(deadline time.Time) bool {
	for {
		now := time.Now()
		at := tickOf(now)
		if at-p.came >= youth || !recent.overfull(at) || later(now.Add(longestTurn), deadline) || p.woken.Load() {
			return false
		}
		if p.fetch(uintptr(p.fd)) {
			return true
		}
		if !recent.turn(at) {
			return false
		}
	}
}
