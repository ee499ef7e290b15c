package engine

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// Requests are what other goroutines want of a run. They wake the poller after they have written.
type Requests struct {
	stopRequested atomic.Bool   // by Stop and Kill
	killRequested atomic.Bool   // by Kill, before stopRequested
	newTimeout    atomic.Int64  // by SetTimeout: since Facts.Started; 0 for none, timeoutSettled once it is late
	cmdCanceled   atomic.Bool   // by the context of exec.CommandContext
	exitSeen      atomic.Bool   // by the fallback without a pidfd, and by waits
	stopped       atomic.Int32  // by watchStops: the signal that stopped the leader, until goOn
	callerSent    atomic.Uint64 // by Signal: the signals sent, as a set of signals

	wake func() // the poller, once there is one

	timeoutSeen int64 // by reason: the last newTimeout that deadline was made of
}

// timeoutSettled says that the timeout cannot be set any more.
const timeoutSettled = -1

// Stop ends the run as a timeout would.
func (r *Requests) Stop() {
	r.stopRequested.Store(true)
	r.wake()
}

// Kill ends the run without a grace period.
func (r *Requests) Kill() {
	r.killRequested.Store(true)
	r.Stop()
}

// SetTimeout sets when the run ends, counted from Facts.Started. It reports false if it comes too late.
func (r *Requests) SetTimeout(until time.Duration) bool {
	for {
		old := r.newTimeout.Load()
		if old == timeoutSettled {
			return false
		}
		if r.newTimeout.CompareAndSwap(old, int64(until)) {
			r.wake()
			return true
		}
	}
}

// Signal sends a signal to the leader alone. The error is os.ErrProcessDone once it has been reaped, or has exited
// and its background is waited for.
func (r *Run) Signal(sig syscall.Signal) error {
	if r.exitSeen.Load() {
		return os.ErrProcessDone
	}
	before := r.callerSent.Or(ladder.SignalBit(sig)) // first: the leader may be gone before Signal returns
	if r.actor != nil {
		r.actor.program.Signal(sig)
		return nil
	}
	err := r.process.Signal(sig)
	if err != nil && before&ladder.SignalBit(sig) == 0 {
		r.callerSent.And(^ladder.SignalBit(sig))
	}
	return err
}

// Ask makes the goroutine of the run call f, and waits for that, until done is closed. It reports false if the run has
// ended: f was not and will not be called.
func (r *Run) Ask(f func(), done <-chan struct{}) bool {
	answered := make(chan struct{})
	if !r.questions.Put(func() { defer close(answered); f() }) {
		return false
	}
	r.Wake()
	select {
	case <-answered:
		return true
	case <-done:
	}
	select {
	case <-answered:
		return true
	default:
		return false
	}
}

// UsageNow returns what the tree has used so far, within Ask.
func (r *Run) UsageNow() usage.Total {
	if r.actor != nil {
		return usage.Total{}
	}
	return r.Meter.SoFar(&r.Tree, r.Leaf)
}

// PassOn sends a signal of the caller's to the tree, within Ask. The leader, which is reaped later, pins the numbers.
// The error is os.ErrProcessDone if the tree is gone or was left.
func (r *Run) PassOn(sig syscall.Signal) error {
	if r.Empty || r.left {
		return os.ErrProcessDone
	}
	members, _ := r.Tree.Live()
	if r.Exited && len(members) == 0 {
		return os.ErrProcessDone
	}
	if !r.Exited {
		r.callerSent.Or(ladder.SignalBit(sig))
	}
	r.Tree.Quiet(func() { r.Send(sig, members) })
	return nil
}
