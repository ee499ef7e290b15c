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
	turns    atomic.Uint64 // that have ended
)

// stalledTurn is how long nobody's turn may end before one of those who wait goes ahead without: starts that
// are held up must not hold up every other.
const stalledTurn = 20 * time.Millisecond

// A turn is where one that was taken is given back.
type turn chan struct{}

// takeTurn waits for a turn, or takes one too many if none ends.
func takeTurn() turn {
	select {
	case starting <- struct{}{}:
		return starting
	default:
	}
	stalled := time.NewTimer(stalledTurn)
	defer stalled.Stop()
	for ended := turns.Load(); ; {
		select {
		case starting <- struct{}{}:
			return starting
		case <-stalled.C:
			// One goes ahead, and all that wait would be as many threads. It gives back a turn all the same, that
			// of one who is held up, so that the next ones do not wait for that long again.
			if turns.CompareAndSwap(ended, ended+1) {
				return starting
			}
			ended = turns.Load()
			stalled.Reset(stalledTurn)
		}
	}
}

func (t turn) end() {
	turns.Add(1)
	select {
	case <-t:
	default:
	}
}
