package engine

import (
	"sync"
	"sync/atomic"
)

// Questions are calls that the goroutine of a run makes for others between two steps: all that a run knows, and its
// tree, belong to that goroutine.
type Questions struct {
	some atomic.Bool // there are calls

	mu     sync.Mutex
	calls  []func()
	closed bool // no calls are made any more
}

// Put adds a call. It reports false if no calls are made any more.
func (q *Questions) Put(call func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.calls = append(q.calls, call)
	q.some.Store(true)
	return true
}

// Answer makes the calls.
func (q *Questions) Answer() {
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

// Close ends what others may ask.
func (q *Questions) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.calls = true, nil
}
