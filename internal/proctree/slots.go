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
	starting = make(chan struct{}, maxStarting)
	turns    atomic.Uint64 // that have ended
)

// stalledTurn is how long nobody's turn may end before the others no longer wait: a start that a file system
// holds up must not hold up every other.
const stalledTurn = 20 * time.Millisecond

// takeTurn waits for a turn. It reports false if it goes ahead without one, because no other ends.
func takeTurn() bool {
	select {
	case starting <- struct{}{}:
		return true
	default:
	}
	stalled := time.NewTimer(stalledTurn)
	defer stalled.Stop()
	for ended := turns.Load(); ; {
		select {
		case starting <- struct{}{}:
			return true
		case <-stalled.C:
			if turns.Load() == ended {
				return false
			}
			ended = turns.Load()
			stalled.Reset(stalledTurn)
		}
	}
}

// endTurn ends what takeTurn has returned.
func endTurn(taken bool) {
	turns.Add(1)
	if taken {
		<-starting
	}
}
