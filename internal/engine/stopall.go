package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// runs are those of this process, from shortly before their start to their end.
var runs struct {
	sync.Mutex
	first   *Run
	stopped time.Time // what began before this is to end
}

// An enlistment is the place of a run among the others. It is guarded by their lock.
type enlistment struct {
	on         bool
	prev, next *Run
	calls      []*stopping // that wait for this run
}

// A stopping is a call of StopAll.
type stopping struct {
	left      int           // how many runs have not ended
	done      chan struct{} // closed once there are none
	survivors []proctree.Process
}

// StopAll ends all runs that have begun, and their grace period once force is closed. It returns what survived.
func StopAll(force <-chan struct{}) []proctree.Process {
	call := &stopping{done: make(chan struct{})}
	call.begin()
	select {
	case <-call.done:
	case <-force:
		call.force()
		<-call.done
	}
	return call.survivors
}

func (call *stopping) begin() {
	runs.Lock()
	defer runs.Unlock()
	runs.stopped = time.Now()
	for r := runs.first; r != nil; r = r.enlisted.next {
		call.left++
		r.enlisted.calls = append(r.enlisted.calls, call)
		r.Stop()
	}
	if call.left == 0 {
		close(call.done)
	}
}

// force ends the grace period of the runs that are left.
func (call *stopping) force() {
	runs.Lock()
	defer runs.Unlock()
	for r := runs.first; r != nil; r = r.enlisted.next {
		if slices.Contains(r.enlisted.calls, call) {
			r.Kill()
		}
	}
}

// enlist makes r one of the runs. It has a poller, and nothing is started yet.
func enlist(r *Run) {
	runs.Lock()
	defer runs.Unlock()
	if r.Facts.Started.Before(runs.stopped) {
		r.stopRequested.Store(true) // it waited for its turn
	}
	r.enlisted.on, r.enlisted.next = true, runs.first
	if runs.first != nil {
		runs.first.enlisted.prev = r
	}
	runs.first = r
}

// delist takes r from the runs. It has ended.
func delist(r *Run) {
	runs.Lock()
	defer runs.Unlock()
	e := &r.enlisted
	if !e.on {
		return
	}
	if e.next != nil {
		e.next.enlisted.prev = e.prev
	}
	if e.prev != nil {
		e.prev.enlisted.next = e.next
	} else {
		runs.first = e.next
	}
	for _, call := range e.calls {
		call.survivors = append(call.survivors, r.Facts.Survivors...)
		if call.left--; call.left == 0 {
			close(call.done)
		}
	}
	*e = enlistment{}
}
