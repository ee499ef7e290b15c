// Package escalate is the ladder of signals as pure timing: which signal is due when, and how long
// its effect is waited for. It makes no system call and knows no process.
package escalate

import (
	"syscall"
	"time"
)

// A Rung is one signal and how long the tree has to go away after it.
type Rung struct {
	Signal syscall.Signal
	Wait   time.Duration
}

// A Ladder hands out rungs, one after the other. The zero Ladder has none.
type Ladder struct {
	rungs []Rung
	until time.Time // when the present rung's wait ends
}

// New returns a ladder of the given rungs. Rungs without a signal are left out.
func New(rungs ...Rung) *Ladder {
	l := &Ladder{rungs: make([]Rung, 0, len(rungs))}
	for _, r := range rungs {
		if r.Signal != 0 {
			l.rungs = append(l.rungs, r)
		}
	}
	return l
}

// Next takes the next rung, whose wait begins now. It reports false at the top of the ladder.
func (l *Ladder) Next(now time.Time) (Rung, bool) {
	if len(l.rungs) == 0 {
		return Rung{}, false
	}
	r := l.rungs[0]
	l.rungs = l.rungs[1:]
	l.until = now.Add(r.Wait)
	return r, true
}

// Before returns until when what comes before a rung's signal may take, where the wait for its effect ends then: the
// signal comes later by as much.
func Before(until time.Time) time.Time { return time.Now().Add(time.Until(until) / 2) }

// Until returns when the present rung's wait ends.
func (l *Ladder) Until() time.Time { return l.until }
