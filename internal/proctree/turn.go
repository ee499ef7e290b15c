package proctree

import (
	"sync/atomic"
	"time"
)

// Starts take turns: os/exec lets one fork at a time, and a goroutine that is locked to its thread keeps it
// while it waits for that. So only so many are locked at once, or a thousand starts would be a thousand
// threads, which the Go runtime never gives back.
const maxStarting = 8

var (
	starting = make(turn, maxStarting)
	stalls   = newStallWatch()
)

// stalledTurn is how long no turn may end before the first waiter goes ahead: starts that are held up must not
// hold up every other.
const stalledTurn = 20 * time.Millisecond

// A turn is where one that was taken is given back.
type turn chan struct{}

// takeTurn waits for a turn. It returns nil if quit is closed or the time, unless that is zero, has come before.
func takeTurn(quit <-chan struct{}, until time.Time) turn {
	select {
	case starting <- struct{}{}:
		return starting
	default:
	}
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	stalls.waiting.Add(1)
	defer stalls.waiting.Add(-1)
	stalls.arm()
	select {
	case starting <- struct{}{}:
		return starting
	case <-quit:
	case <-late:
	}
	return nil
}

func (t turn) end() {
	stalls.ended.Add(1)
	select {
	case <-t:
	default:
	}
}

// A stallWatch checks now and then whether turns end, as long as a start waits for one. No waiter does it: one
// that leaves the queue to look would come back to its end.
type stallWatch struct {
	timer   *time.Timer   // calls tick
	armed   atomic.Bool   // the timer is set, or tick runs
	waiting atomic.Int32  // for a turn
	ended   atomic.Uint64 // turns
	seen    atomic.Uint64 // of ended, when it was armed
}

func newStallWatch() *stallWatch {
	w := &stallWatch{}
	w.timer = time.AfterFunc(time.Hour, w.tick)
	w.timer.Stop()
	return w
}

func (w *stallWatch) arm() {
	if !inBubble() && w.armed.CompareAndSwap(false, true) {
		w.seen.Store(w.ended.Load())
		w.timer.Reset(stalledTurn)
	}
}

// tick gives back the turn of a start that is held up, if none has ended. A waiter has it then, and after it the next,
// so that they do not wait for that long again.
func (w *stallWatch) tick() {
	if w.waiting.Load() > 0 && w.ended.Load() == w.seen.Load() {
		select {
		case <-starting:
		default:
		}
	}
	w.armed.Store(false) // before it asks, so that one that waits from now on finds it so
	if w.waiting.Load() > 0 {
		w.arm()
	}
}
