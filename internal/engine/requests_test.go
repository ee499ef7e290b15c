package engine

import (
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A quiet poller never waits. It has the given events once.
type quiet struct {
	events  []int // tokens
	onWait  func()
	fails   error
	waits   []time.Time
	removed []int
}

func (q *quiet) Add(int, poll.Direction, int) error { return q.fails }
func (q *quiet) SetsNonblock() bool                 { return false }
func (q *quiet) Wake()                              {}
func (q *quiet) Close()                             {}
func (q *quiet) Remove(fd int) error {
	q.removed = append(q.removed, fd)
	return nil
}

func (q *quiet) Wait(until time.Time) (all []poll.Event, err error) {
	q.waits = append(q.waits, until)
	if q.onWait != nil {
		q.onWait()
	}
	for _, token := range q.events {
		all = append(all, poll.Event{Token: token, Ready: true})
	}
	q.events = nil
	return all, q.fails
}

// Calls are made in their order, those that a call asks for in the next round, and none once it is closed.
func TestQuestions(t *testing.T) {
	var q Questions
	var made []string
	q.Answer()
	assert.True(t, q.Put(func() {
		made = append(made, "first")
		assert.True(t, q.Put(func() { made = append(made, "third") }))
	}))
	assert.True(t, q.Put(func() { made = append(made, "second") }))
	q.Answer()
	assert.Equal(t, []string{"first", "second"}, made)
	q.Answer()
	q.Answer()
	assert.Equal(t, []string{"first", "second", "third"}, made)
	assert.True(t, q.Put(func() { made = append(made, "late") }))
	q.Close()
	assert.False(t, q.Put(func() {}))
	q.Answer()
	assert.Len(t, made, 3)
}

func TestAsk(t *testing.T) {
	r := asked(patient(), began)
	woken := make(chan struct{}, 1)
	r.Wake = func() { woken <- struct{}{} }
	done := make(chan struct{})
	answer := make(chan bool)
	called := false
	go func() { answer <- r.Ask(func() { called = true }, done) }()
	<-woken
	r.questions.Answer()
	assert.True(t, <-answer)
	assert.True(t, called)

	go func() { answer <- r.Ask(func() { t.Error("the run has ended") }, done) }()
	<-woken
	r.questions.Close()
	close(done)
	assert.False(t, <-answer)
	assert.False(t, r.Ask(func() {}, done))
}

// A signal that was not sent is not the caller's, unless one was that came before.
func TestSignalThatFails(t *testing.T) {
	r := asked(patient(), began)
	r.process = new(os.Process)
	_ = r.process.Release()
	require.Error(t, r.Signal(syscall.SIGINT))
	assert.Zero(t, r.callerSent.Load())
	r.callerSent.Store(ladder.SignalBit(syscall.SIGINT) | ladder.SignalBit(syscall.SIGHUP))
	require.Error(t, r.Signal(syscall.SIGINT))
	assert.Equal(t, ladder.SignalBit(syscall.SIGINT)|ladder.SignalBit(syscall.SIGHUP), r.callerSent.Load())
	r.exitSeen.Store(true)
	assert.Equal(t, os.ErrProcessDone, r.Signal(syscall.SIGINT))
}

// Nothing is sent to a tree that is gone or that was left: the number may be another's.
func TestPassOnToNobody(t *testing.T) {
	for _, set := range []func(r *Run){
		func(r *Run) { r.Empty = true },
		func(r *Run) { r.left = true },
	} {
		r := asked(patient(), began)
		set(r)
		assert.Equal(t, os.ErrProcessDone, r.PassOn(syscall.SIGINT))
		assert.Zero(t, r.callerSent.Load())
	}
}

// listed returns a run that StopAll knows.
func listed(t *testing.T) *Run {
	r := asked(patient(), time.Now())
	enlist(r)
	t.Cleanup(func() { delist(r) })
	return r
}

func TestStopAllOfNone(t *testing.T) {
	assert.Empty(t, StopAll(nil))
	r := asked(patient(), began)
	enlist(r)
	defer delist(r)
	assert.True(t, r.stopRequested.Load(), "it began before, and has waited for its turn")
	assert.False(t, listed(t).stopRequested.Load(), "it began afterwards")
}

// The runs are stopped, killed once they are forced, and waited for, in whatever order they end.
func TestStopAll(t *testing.T) {
	for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
		all := []*Run{listed(t), listed(t), listed(t)}
		force := make(chan struct{})
		survivors := make(chan []proctree.Process)
		go func() { survivors <- StopAll(force) }()
		for _, r := range all {
			testproc.Wait(t, r.stopRequested.Load)
			assert.False(t, r.killRequested.Load())
		}
		late := listed(t) // the call does not wait for it
		delist(all[order[0]])
		close(force)
		for _, i := range order[1:] {
			testproc.Wait(t, all[i].killRequested.Load)
		}
		assert.False(t, all[order[0]].killRequested.Load(), "it had ended")
		assert.False(t, late.killRequested.Load())
		for _, i := range order[1:] {
			select {
			case <-survivors:
				t.Fatal("not all have ended")
			default:
			}
			all[i].Facts.Survivors = []proctree.Process{{PID: i}}
			delist(all[i])
			delist(all[i]) // once is enough
		}
		var pids []int
		for _, p := range <-survivors {
			pids = append(pids, p.PID)
		}
		assert.True(t, slices.Equal(order[1:], pids), pids)
		delist(late)
		assert.Empty(t, runs.calls)
	}
}
