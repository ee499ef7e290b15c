package engine

import "sync"

// Questions are calls that the goroutine of a run makes for others between two steps: the run and its tree belong to
// that goroutine.
type Questions struct {
	mu     sync.Mutex
	calls  []func()
	closed bool
}

// Put adds a call. It reports false after Close.
func (q *Questions) Put(call func()) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return false
	}
	q.calls = append(q.calls, call)
	return true
}

// Answer makes the calls.
func (q *Questions) Answer() {
	q.mu.Lock()
	calls := q.calls
	q.calls = nil
	q.mu.Unlock()
	for _, call := range calls {
		call()
	}
}

// Close drops the calls, and all later ones.
func (q *Questions) Close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed, q.calls = true, nil
}
