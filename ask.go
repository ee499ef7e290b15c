package safeexec

import (
	"sync"
	"sync/atomic"
)

// Questions are calls that the goroutine of a run makes for others between two steps: all that a run knows, and its
// tree, belong to that goroutine.
type questions struct {
	some atomic.Bool // there are calls

	mu     sync.Mutex
	calls  []func()
	closed bool // nobody makes them any more
}

// ask has the goroutine of the run call f, and waits for that. It reports false if the run has come to its end: f was
// not called and will not be.
func (p *Process) ask(f func()) bool {
	answered := make(chan struct{})
	if !p.run.questions.put(func() { defer close(answered); f() }) {
		return false
	}
	p.run.Poller.Wake()
	select {
	case <-answered:
		return true
	case <-p.done:
	}
	select {
	case <-answered:
		return true
	default:
		return false
	}
}

func (q *questions) put(call func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.calls = append(q.calls, call)
	q.some.Store(true)
	return true
}

// answer makes the calls.
func (q *questions) answer() {
	if !q.some.Load() {
		return
	}
	q.mu.Lock()
	calls := q.calls
	q.calls = nil
	q.some.Store(false)
	q.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

func (q *questions) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.calls = true, nil
}
