package proctree

import (
	"sync/atomic"
	"time"
)

// A keeper has the last PID read now and then while there are runs, so that the windows of none of them
// have to be given up. To list /proc instead takes some hundred microseconds at each look, even on a small
// machine. For a command that runs for longer than maxReadings take, that is nothing, and a host that waits for one
// is not woken.
type keeper struct {
	timer *time.Timer  // calls tick
	armed atomic.Bool  // the timer is set, or tick runs
	left  atomic.Int32 // readings that may still be made
}

// maxReadings is how many readings are made after the last start.
const maxReadings = 10

// shortestTick is the least time between two readings. Where that is not enough, on a machine of many CPUs
// with few PIDs, none are made.
const shortestTick = 5 * time.Millisecond

var readings = newKeeper()

func newKeeper() *keeper {
	k := &keeper{}
	k.timer = time.AfterFunc(time.Hour, k.tick)
	k.timer.Stop()
	return k
}

var initTime = time.Now()

// inBubble reports whether the caller is in a bubble of testing/synctest, whose clock begins in the year 2000 and
// has no monotonic part. A timer of the world outside that is set by it does not come for decades.
func inBubble() bool { return time.Since(initTime) < 0 }

// keepUp has readings made from now on. A run was started.
func (k *keeper) keepUp() {
	k.left.Store(maxReadings)
	k.arm()
}

func (k *keeper) arm() {
	if every := k.every(); every >= shortestTick && !inBubble() && k.armed.CompareAndSwap(false, true) {
		k.timer.Reset(every)
	}
}

// every returns the time between two readings: half of what may pass, so that one can come late.
func (k *keeper) every() time.Duration { return lapTime(pidMax.get(), cpus.get()) / 2 }

func (k *keeper) tick() {
	_, _, _ = pids.last()
	k.left.Add(-1)
	k.armed.Store(false) // before it asks, so that a run that starts from now on finds it so
	if k.wanted() {
		k.arm()
	}
}

// wanted reports whether some run began a short while ago and is not over.
func (k *keeper) wanted() bool { return k.left.Load() > 0 && liveCount() > 0 }
