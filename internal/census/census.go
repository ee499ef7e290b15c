// Package census makes lists of what is on the machine once for all that ask at the same time. If each of a thousand
// commands that end together made its own, the time would grow with the square of their number.
package census

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// A Census makes lists. An asker gets a list that was begun after it asked, since only that has everything on it that
// was there then: those that ask while a list is made wait for the next. It is safe for concurrent use.
type Census[T any] struct {
	// Read makes a list of an empty or a used one, which so many others wait for. Only one runs at a time, on a
	// goroutine of its own, which is left behind if it takes longer than its asker waits.
	Read func(list *T, others int)

	begun   atomic.Uint64 // lists
	waiting atomic.Int32  // askers that do not have the turn
	// turn is held to make a list or to take the last. It is made with the census, since a channel made in a bubble of
	// testing/synctest cannot be used from outside.
	turn chan struct{}
	last *List[T] // with the turn; kept while an asker waits that may have asked before it was begun
	used sync.Pool
}

// A List does not change until it is released.
type List[T any] struct {
	Of T

	census *Census[T]
	number uint64       // of those begun
	users  atomic.Int32 // and one for the census while it is the last
}

// New returns a census of lists that read makes.
func New[T any](read func(list *T, others int)) *Census[T] {
	return &Census[T]{Read: read, turn: make(chan struct{}, 1)}
}

// Take returns a list that was begun after the call, which the caller releases; nil if there is none at the given
// time. It also returns how long the call waited for others.
func (c *Census[T]) Take(until time.Time) (list *List[T], waited time.Duration) {
	asked, began := c.begun.Load(), time.Now()
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	c.waiting.Add(1)
	select {
	case c.turn <- struct{}{}:
	case <-late.C:
		c.leave()
		return nil, time.Since(began)
	}
	others := int(c.waiting.Add(-1))
	waited = time.Since(began)
	if list = c.last; list != nil && list.number > asked {
		list.users.Add(1)
		c.endTurn()
		return list, waited
	}
	made := make(chan *List[T], 1)
	go c.make(others, made)
	select {
	case list = <-made:
		return list, waited
	case <-late.C:
		return nil, waited
	}
}

// leave ends the waiting of an asker that has no list. The last one to wait takes the last list along.
func (c *Census[T]) leave() {
	if c.waiting.Add(-1) > 0 {
		return
	}
	select {
	case c.turn <- struct{}{}:
		c.endTurn()
	default: // the turn's holder sees to it
	}
}

// make makes a list, and ends the turn.
func (c *Census[T]) make(others int, made chan<- *List[T]) {
	c.forget()
	list, ok := c.used.Get().(*List[T])
	if !ok {
		list = &List[T]{census: c}
	}
	list.users.Store(2)
	list.number = c.begun.Add(1)
	c.Read(&list.Of, others)
	c.last = list
	made <- list // for the garbage collector, if the asker has left
	c.endTurn()
}

func (c *Census[T]) endTurn() {
	if c.waiting.Load() == 0 {
		c.forget()
	}
	<-c.turn
	runtime.Gosched() // to the next, which would else wait for as long as this one computes
}

func (c *Census[T]) forget() {
	if c.last != nil {
		c.last.Release()
		c.last = nil
	}
}

// Release gives the list back. Its memory is used again.
func (l *List[T]) Release() {
	if l.users.Add(-1) == 0 {
		l.census.used.Put(l)
	}
}

// Waiting returns how many wait for others.
func (c *Census[T]) Waiting() int { return int(c.waiting.Load()) }
