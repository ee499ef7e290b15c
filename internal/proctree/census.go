package proctree

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A census lists processes for those who ask at the same time: once for all of them. Were each to list them for
// itself, the end of a thousand commands at once would take the square of their number.
//
// Whoever asks is given a list that was begun after they had asked, since only that has everybody in it
// whom they look for. So those who come while one is made wait for the next. There are no channels in it: those
// of a bubble of testing/synctest cannot be used from outside.
type census struct {
	read    func(*roll)   // makes a list of an empty one
	begun   atomic.Uint64 // lists
	waiting atomic.Int32  // who have asked and do not have the lock

	sync.Mutex
	last *roll // as long as somebody waits who may have asked before it was begun
}

// everybody lists all processes.
var everybody = census{read: (*roll).all}

// A roll is one list. It is not changed once it is made.
type roll struct {
	pids []int // in ascending order
	// bearers is parallel to pids, or empty.
	bearers []bearer
	traits  []traits // likewise
	err     error

	shared bool          // somebody else has asked as well
	number uint64        // of lists that were begun, with this one
	took   time.Duration // to make
	users  atomic.Int32  // and one for the census while it is the last
}

// rolls lends the memory for one: it is the largest that a run takes, and many take it one after the other.
var rolls = sync.Pool{New: func() any { return new(roll) }}

// take returns a list that is begun after the call. It is to be released.
func (c *census) take() *roll {
	asked := c.begun.Load()
	c.waiting.Add(1)
	c.Lock()
	defer c.Unlock()
	shared := c.waiting.Add(-1) > 0
	if c.last == nil || c.last.number <= asked {
		c.forget()
		c.last = rolls.Get().(*roll)
		c.last.pids, c.last.bearers, c.last.traits, c.last.err = c.last.pids[:0], c.last.bearers[:0], c.last.traits[:0], nil
		c.last.users.Store(1)
		c.last.shared = shared
		c.last.number = c.begun.Add(1)
		began := time.Now()
		c.read(c.last)
		c.last.took = time.Since(began)
	}
	r := c.last
	r.users.Add(1)
	if c.waiting.Load() == 0 {
		c.forget()
	}
	return r
}

func (c *census) forget() {
	if c.last != nil {
		c.last.release()
		c.last = nil
	}
}

func (r *roll) release() {
	if r.users.Add(-1) == 0 {
		rolls.Put(r)
	}
}

// all lists all processes. For one who asks alone the marks are not read: to read each twice would be all there is
// to gain.
func (r *roll) all() {
	r.pids, r.err = procfs.AppendPIDs(r.pids)
	if !r.shared {
		return
	}
	pulse := newPulse()
	for _, pid := range r.pids {
		pulse.beat()
		r.bearers = append(r.bearers, bearerOf(pid))
	}
}

// A bearer is what the marks of a process tell all who look: which run of this process its limit mark names, where
// its slice or session bears that out, or that they name none.
type bearer struct {
	run      uint32 // 0 for others
	session  int    // with a run
	stranger bool   // no mark at all, and in a session that no run leads
}

func bearerOf(pid int) bearer {
	soft, _, err := sys.RTTimeLimit(pid)
	if err != nil {
		return bearer{}
	}
	session, err := sys.Session(pid)
	if err != nil {
		return bearer{}
	}
	led := runLedBy(session)
	s, err := sys.ScheduleOf(pid)
	outer, inner, marked := runsOf(soft)
	if !marked {
		return bearer{stranger: led == 0 && err == nil && noMark.runOfSlice(s.Slice(), 0, 0) == 0}
	}
	run, live := runNamed(outer, inner)
	if !live || led != run && noMark.runOfSlice(s.Slice(), run, inner) != run {
		return bearer{}
	}
	return bearer{run: run, session: session}
}

// each calls f with everybody, but not with those whose marks tell l, which may be nil, that they are none of its. It
// reports false where l was late before everybody was told: of the rest it has told those alone who are signaled by
// number, found or not. Those who have the numbers after the given one are told first: whom a leader has started is
// mostly there, and a look that is cut short has found them.
func (r *roll) each(l lookout, f visit, after int) (whole bool) {
	pulse, whole := newPulse(), true
	first, leader := slices.BinarySearch(r.pids, after)
	if leader {
		first++
	}
	for n := range r.pids {
		i := (first + n) % len(r.pids)
		whole = whole && (n%64 != 63 || l == nil || !l.late())
		if l != nil && r.excludes(l, i) || !whole && !l.grouped(r.pids[i]) {
			continue
		}
		pulse.beat() // not before, where most of thousands are passed over by thousands
		f(r.pids[i], anywhere)
	}
	return whole
}
