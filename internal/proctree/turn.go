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
	turns    atomic.Uint64            // that have ended
	watching = make(chan struct{}, 1) // one of those who wait looks whether turns end
)

// stalledTurn is how long nobody's turn may end before one of those who wait goes ahead without: starts that
// are held up must not hold up every other.
const stalledTurn = 20 * time.Millisecond

// A turn is where one that was taken is given back.
type turn chan struct{}

// takeTurn waits for a turn, or takes one too many if none ends. It returns nil if quit is closed or the time,
// unless that is zero, has come before.
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
	select {
	case starting <- struct{}{}:
		return starting
	case watching <- struct{}{}:
		defer func() { <-watching }()
		return watchTurns(quit, late)
	case <-quit:
	case <-late:
	}
	return nil
}

// watchTurns waits like all others, and looks whether turns end.
func watchTurns(quit <-chan struct{}, late <-chan time.Time) turn {
	look := time.NewTicker(stalledTurn)
	defer look.Stop()
	for ended := turns.Load(); ; {
		select {
		case starting <- struct{}{}:
			return starting
		case <-look.C:
			// One goes ahead, and all that wait would be as many threads. It gives back a turn all the same, that
			// of one who is held up, so that the next ones do not wait for that long again.
			if turns.CompareAndSwap(ended, ended+1) {
				return starting
			}
			ended = turns.Load()
		case <-quit:
			return nil
		case <-late:
			return nil
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
