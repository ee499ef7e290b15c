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
// next. Then one goroutine has run after run to itself, as long as it needs not wait, and who waits for an exit is
// told of it late. So as long as there is a crowd, nobody of it parks: whoever waits lets the others run and looks
// again in turn, and whoever comes lets those run who are there. With 16 at once that halves the 99th
// percentile. Who stays for longer is not of the crowd any more: thousands that sleep cost nothing.
type crowd struct {
	cells [youth]atomic.Uint64 // by tick: the tick, and how many came in it and are not back
}

// A tick is a time in milliseconds. It comes around after 49 days.
type tick uint32

// youth is for how many ticks one is of the crowd.
const youth = 4

var recent crowd

// Crowded reports whether those whose pollers were lent a short while ago have to share the processors.
func Crowded() bool { return recent.overfull(now()) }

// processors is how many of the crowd can run at once.
var processors = uint32(runtime.GOMAXPROCS(0))

var firstTick = time.Now()

func tickOf(t time.Time) tick { return tick(t.Sub(firstTick) / time.Millisecond) }

func now() tick { return tickOf(time.Now()) }

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

func (c *crowd) overfull(now tick) bool {
	var sum uint32
	for i := range c.cells {
		if at, count := parts(c.cells[i].Load()); now-at < youth {
			sum += count
		}
	}
	return sum > processors
}

// nobody is less than anybody else has the processor for: so little time passes where nobody wants it.
const nobody = 5 * time.Microsecond

// takeTurns looks for what is ready as long as p is of a crowd, the others running in between, and reports whether
// there is something. Who is left without others parks: the runtime's poller is asked then.
func (p *epoll) takeTurns(deadline time.Time) bool {
	for {
		began := time.Now()
		at := tickOf(began)
		if at-p.came >= youth || !recent.overfull(at) || later(began, deadline) || p.woken.Load() {
			return false
		}
		if p.fetch(uintptr(p.fd)) {
			return true
		}
		runtime.Gosched()
		if time.Since(began) < nobody {
			return false
		}
	}
}
