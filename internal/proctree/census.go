package proctree

import (
	"sync"
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A census lists processes for those who ask at the same time: once for all of them. Were each to list them for
// itself, the end of a thousand commands at once would take the square of their number.
//
// Whoever asks is given a list that was begun after they had asked, since only that has everybody in it
// whom they look for. So those who come while one is made wait for the next, which one of them makes.
type census struct {
	read func(*roll) // makes a list

	sync.Mutex
	underWay bool
	next     *roll // for those who have come meanwhile; nil if nobody has
}

// everybody lists all processes.
var everybody = census{read: (*roll).all}

// A roll is one list. It is not changed once it is made.
type roll struct {
	pids []int // in ascending order
	// marks are the limit marks of those who bear one of a live run of this process, 0 for others: parallel to
	// pids, or empty where there is one run at most.
	marks []uint64
	err   error

	users atomic.Int32
	turn  chan struct{} // whoever receives makes the list
	made  chan struct{} // closed when it is
}

// rolls lends the memory for one: it is the largest that a run takes, and many take it one after the other.
var rolls = sync.Pool{New: func() any {
	return &roll{turn: make(chan struct{}, 1)}
}}

// take returns a list that is begun after the call. It is to be released.
func (c *census) take() *roll {
	c.Lock()
	if !c.underWay {
		c.underWay = true
		c.Unlock()
		r := rolls.Get().(*roll)
		r.users.Store(1)
		c.make(r)
		return r
	}
	if c.next == nil {
		c.next = rolls.Get().(*roll)
		c.next.made = make(chan struct{})
	}
	r := c.next
	r.users.Add(1)
	c.Unlock()
	select {
	case <-r.made:
	case <-r.turn:
		c.make(r)
	}
	return r
}

// make makes the list, for which it is the caller's turn, and gives the turn to the next.
func (c *census) make(r *roll) {
	c.read(r)
	if r.made != nil {
		close(r.made)
	}
	c.Lock()
	next := c.next
	c.next, c.underWay = nil, next != nil
	c.Unlock()
	if next != nil {
		next.turn <- struct{}{}
	}
}

func (r *roll) release() {
	if r.users.Add(-1) == 0 {
		r.made = nil
		rolls.Put(r)
	}
}

// all lists all processes, with their marks.
func (r *roll) all() {
	r.marks = r.marks[:0]
	r.pids, r.err = procfs.AppendPIDs(r.pids[:0])
	if liveCount() < 2 {
		return // to read them twice would be all there is to gain
	}
	for _, pid := range r.pids {
		var mark uint64
		if soft, _, err := sys.RTTimeLimit(pid); err == nil {
			if _, inner, marked := runsOf(soft); marked && isLive(inner) {
				mark = soft
			}
		}
		r.marks = append(r.marks, mark)
	}
}

// each calls f with everybody, but not with those whose marks tell l, which may be nil, that they are none of its.
func (r *roll) each(l lookout, f visit) {
	for i, pid := range r.pids {
		if l != nil && len(r.marks) > 0 && r.marks[i] != 0 && l.excludes(r.marks[i]) {
			continue
		}
		f(pid, anywhere)
	}
}
