package engine

import (
	"slices"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// runs are those of this process, from shortly before their start to their end.
var runs = struct {
	sync.Mutex
	calls   map[*Run][]*stopping // that wait for the run
	stopped time.Time            // what began before this is to end
}{calls: make(map[*Run][]*stopping)}

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
	for r, calls := range runs.calls {
		call.left++
		runs.calls[r] = append(calls, call)
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
	for r, calls := range runs.calls {
		if slices.Contains(calls, call) {
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
	runs.calls[r] = nil
}

// delist takes r from the runs, if it is one of them. It has ended.
func delist(r *Run) {
	runs.Lock()
	defer runs.Unlock()
	for _, call := range runs.calls[r] {
		call.survivors = append(call.survivors, r.Facts.Survivors...)
		if call.left--; call.left == 0 {
			close(call.done)
		}
	}
	delete(runs.calls, r)
}
