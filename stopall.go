package safeexec

import (
	"context"
	"slices"
	"sync"
	"time"
)

// runs are those of this process, from shortly before their start to their end.
var runs struct {
	sync.Mutex
	first   *run
	stopped time.Time // what began before this is to end
}

// An enlistment is the place of a run among the others. It is guarded by their lock.
type enlistment struct {
	on         bool
	prev, next *run
	calls      []*stopping // that wait for this run
}

// A stopping is a call of StopAll.
type stopping struct {
	left      int           // how many runs have not ended
	done      chan struct{} // closed once there are none
	survivors []ProcessInfo
}

// StopAll ends all runs of this process that have begun. All trees are asked to end at once, each with the grace period
// of its run, which is over for all when ctx is done: see [Process.Stop] and [WithForce]. Runs that begin later are not
// touched. It returns when all have ended, and needs no bound of its own: the longest [StopBound] of the runs
// is one. The error matches [ErrSurvivors] if processes are left, and names them.
//
// It is for the end of a program whose runs have several owners. A Reader, Writer or callback of a run must not call
// it, or that run waits for it as long as it may.
func StopAll(ctx context.Context) error {
	if ctx == nil {
		return &ConfigError{Name: "ctx", Reason: "is nil"}
	}
	call := &stopping{done: make(chan struct{})}
	call.begin()
	select {
	case <-call.done:
	case <-ctx.Done():
		call.force()
		<-call.done
	}
	if len(call.survivors) > 0 {
		return &Error{Op: "stopall", errs: []error{survivorsError(call.survivors, 0)}}
	}
	return nil
}

func (call *stopping) begin() {
	runs.Lock()
	defer runs.Unlock()
	runs.stopped = time.Now()
	for r := runs.first; r != nil; r = r.enlisted.next {
		call.left++
		r.enlisted.calls = append(r.enlisted.calls, call)
		r.stopRequested.Store(true)
		r.Wake()
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
			r.killRequested.Store(true)
			r.Wake()
		}
	}
}

// enlist makes r one of the runs. It has a poller, and nothing is started yet.
func (r *run) enlist() {
	runs.Lock()
	defer runs.Unlock()
	if r.result.Times.Started.Before(runs.stopped) {
		r.stopRequested.Store(true) // it waited for its turn
	}
	r.enlisted.on, r.enlisted.next = true, runs.first
	if runs.first != nil {
		runs.first.enlisted.prev = r
	}
	runs.first = r
}

// delist takes r from the runs. It has ended.
func (r *run) delist() {
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
		call.survivors = append(call.survivors, r.result.Survivors...)
		if call.left--; call.left == 0 {
			close(call.done)
		}
	}
	*e = enlistment{}
}
