// Package ending ends trees that this process may not have started, found by what was written down of them: for jobs,
// and for the guard of a program that has died.
package ending

import (
	"cmp"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// An Ending is the end of one tree. It belongs to one goroutine.
type Ending struct {
	Tree     proctree.Tree // the caller recalls it, and forgets it
	Canceled func() bool   // whether nothing more is to be sent; nil for never

	signaled map[proctree.Process]string // names; the keys have none, which change at an exec
}

// The pauses between two looks at a tree that is dying.
const (
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// Climb sends the signals of the ladder, one after the other, until a look finds the tree empty. It returns what the
// last look found, and whether that is all of the tree.
func (e *Ending) Climb(ladder *escalate.Ladder) (members []*proctree.Member, sure bool) {
	for {
		members, sure = e.Tree.Live()
		if len(members) == 0 && sure {
			return nil, true
		}
		rung, more := ladder.Next(time.Now())
		if !more || e.canceled() {
			return members, sure
		}
		e.Tree.Until(escalate.Before(ladder.Until()))
		if !sure {
			members, _ = e.Tree.Live()
		}
		e.signal(members, rung.Signal, ladder.Until())
		e.Tree.Until(ladder.Until())
		if e.await(rung.Signal, ladder.Until()) {
			return nil, true
		}
	}
}

func (e *Ending) canceled() bool { return e.Canceled != nil && e.Canceled() }

func (e *Ending) note(m *proctree.Member) {
	if e.signaled == nil {
		e.signaled = make(map[proctree.Process]string)
	}
	if _, ok := e.signaled[identity(m.Process)]; !ok {
		e.signaled[identity(m.Process)] = m.Name
	}
}

func identity(p proctree.Process) proctree.Process {
	return proctree.Process{PID: p.PID, Start: p.Start}
}

func (e *Ending) signal(members []*proctree.Member, sig syscall.Signal, until time.Time) {
	if sig == syscall.SIGKILL {
		e.Tree.Kill(until, e.note)
		return
	}
	for _, sig := range []syscall.Signal{sig, proctree.SIGCONT} { // what is stopped would not hear of it
		for _, m := range members {
			e.note(m)
			_ = e.Tree.Signal(m, sig) // Err has it
		}
	}
}

// await looks at the tree until it is empty. It reports false if it is not in time. What is born while SIGKILL is the
// rung gets it as well.
func (e *Ending) await(rung syscall.Signal, until time.Time) bool {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		members, sure := e.Tree.Live()
		if len(members) == 0 && sure {
			return true
		}
		left := time.Until(until)
		if left <= 0 || e.canceled() {
			return false
		}
		if rung == syscall.SIGKILL && e.Tree.Fresh() {
			e.Tree.Kill(until, e.note)
		}
		time.Sleep(min(pause, left))
	}
}

// Killed returns those that were signaled and are not among the survivors, the oldest first.
func (e *Ending) Killed(survivors []*proctree.Member) []proctree.Process {
	for _, m := range survivors {
		delete(e.signaled, identity(m.Process))
	}
	var list []proctree.Process
	for p, name := range e.signaled {
		list = append(list, proctree.Process{PID: p.PID, Start: p.Start, Name: name})
	}
	slices.SortFunc(list, func(a, b proctree.Process) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	return list
}
