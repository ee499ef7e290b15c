package safeexec

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"
)

// An Observer is asked about each run that is to be started with it, see [WithObserver].
type Observer interface {
	// Observe is called before anything is started, with the context and the command of the run, and
	// returns what is to be called during the run. It must not change the command.
	Observe(ctx context.Context, cmd *exec.Cmd) Observation
}

// An Observation is what an [Observer] wants to know of one run. Funcs that are nil are not called.
type Observation struct {
	// Env is added to the command's environment, as "key=value".
	Env []string
	// Started is called once the command runs.
	Started func(pid int)
	// Retried is called when a start failed for a reason that usually passes, and is to be tried again.
	Retried func(err error)
	// Ending is called when the run is about to be ended by force, before the first signal.
	Ending func(cause Cause)
	// Ended is called at the end, with what the run returns, also when nothing was started: Result.PID
	// is 0 then. Whom the run killed, left alive or could not end is in the Result.
	Ended func(res Result, err error)
}

type observerOption struct{ Observer }

func (o observerOption) apply(c *config) {
	if o.Observer != nil {
		c.observers = append(c.observers, o.Observer)
	}
}

// WithObserver has o told of the run. Each WithObserver adds an observer; a nil one is ignored. A run that
// is refused for its options, context or command is not observed.
//
// What an observer does can not change the run: its funcs are called one after the other in a goroutine
// of their own, beside the command. Run waits for them, twice and each time at most the drain timeout
// ([WithDrainTimeout]): for Observe, and at the end for all others. What has not returned by then is left
// behind as [AbandonedObserver], and Run returns that much later than it promises otherwise. A panic
// is contained, and is in Result.ObserverErr, which is what the observers do not see.
//
// The end of a run of [Start] is observed when it comes, and with StdinPipe, StdoutPipe or StderrPipe
// at the first Wait.
//
// A run without an observer allocates nothing for it.
func WithObserver(o Observer) Option { return observerOption{o} }

// An observation is what is being observed of one run. Its methods do nothing on a nil one. They belong
// to the goroutine of the run, except deliver.
type observation struct {
	calls chan func() // closed by ended, and by observed where Observe does not return
	done  chan struct{}

	// Written by deliver before the first call has returned.
	each []Observation

	mu  sync.Mutex
	err error // the first panic
}

// maxEvents is more than can wait: each retry waits twice as long as the one before, up to [lastRetryDelay].
const maxEvents = 64

// beginObserving asks the observers. It belongs to begin.
func (r *run) beginObserving() error {
	if len(r.cfg.observers) == 0 {
		return nil
	}
	o := &observation{calls: make(chan func(), maxEvents), done: make(chan struct{})}
	asked := make(chan struct{})
	ctx, cmd, observers := r.ctx, r.cmd, r.cfg.observers
	o.calls <- func() {
		defer close(asked)
		for _, observer := range observers {
			o.contain(func() { o.each = append(o.each, observer.Observe(ctx, cmd)) })
		}
	}
	go o.deliver()
	if !within(r.cfg.Drain, asked) {
		close(o.calls)
		r.result.Abandoned = append(r.result.Abandoned, AbandonedObserver)
		return nil
	}
	r.observed = o
	return o.checkEnv()
}

// deliver makes the calls. It ends with the last, or with an observer that ends its goroutine.
func (o *observation) deliver() {
	defer close(o.done)
	for call := range o.calls {
		call()
	}
}

// contain calls f, and keeps the first panic.
func (o *observation) contain(f func()) {
	defer func() {
		if v := recover(); v != nil {
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.err == nil {
				o.err = fmt.Errorf("safeexec: observer panicked: %v", v)
			}
		}
	}()
	f()
}

// tell has f called for each observer. An event that finds no room, behind a func that does not return,
// is lost.
func (o *observation) tell(f func(Observation)) {
	select {
	case o.calls <- func() {
		for _, each := range o.each {
			o.contain(func() { f(each) })
		}
	}:
	default:
	}
}

// checkEnv refuses variables that can not be ones.
func (o *observation) checkEnv() error {
	for _, each := range o.each {
		for _, v := range each.Env {
			if strings.IndexByte(v, '=') <= 0 || strings.IndexByte(v, 0) >= 0 {
				return &ConfigError{Name: "Observation.Env", Reason: "holds what is no variable"}
			}
		}
	}
	return nil
}

// addEnv adds the observers' variables to those of the command.
func (o *observation) addEnv(cmd *exec.Cmd) {
	if o == nil {
		return
	}
	for _, each := range o.each {
		if len(each.Env) > 0 {
			cmd.Env = slices.Concat(cmd.Environ(), each.Env)
		}
	}
}

func (o *observation) started(pid int) {
	if o != nil {
		o.tell(func(each Observation) {
			if each.Started != nil {
				each.Started(pid)
			}
		})
	}
}

func (o *observation) retried(err error) {
	if o != nil {
		o.tell(func(each Observation) {
			if each.Retried != nil {
				each.Retried(err)
			}
		})
	}
}

func (o *observation) ending(cause Cause) {
	if o != nil {
		o.tell(func(each Observation) {
			if each.Ending != nil {
				each.Ending(cause)
			}
		})
	}
}

// endObserving tells the observers of the end, and waits for them. Nothing is told after it.
func (r *run) endObserving(err error) {
	o := r.observed
	if o == nil {
		return
	}
	r.observed = nil
	res := r.result
	o.tell(func(each Observation) {
		if each.Ended != nil {
			each.Ended(res, err)
		}
	})
	close(o.calls)
	if !within(r.cfg.Drain, o.done) {
		r.result.Abandoned = append(r.result.Abandoned[:len(r.result.Abandoned):len(r.result.Abandoned)], AbandonedObserver)
	}
	o.mu.Lock()
	r.result.ObserverErr = o.err
	o.mu.Unlock()
}

// within reports whether done is closed within the given time.
func within(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

// errUnfinished is the end of a run as observers see it whose caller's Writer, or Redact function, panicked.
var errUnfinished = errors.New("safeexec: a function of the caller's panicked")
