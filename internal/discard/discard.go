// Package discard reads pipes into nothing, for processes that were left to run: they neither die
// of SIGPIPE nor block on a full pipe.
//
// One goroutine serves all pipes of a [Pool] and takes no thread while it waits. It holds no buffer
// then, and it ends with the last pipe.
package discard

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/poll"
)

// A Pool reads a limited number of pipes. A place is reserved before there is a pipe, so that a pipe
// never comes and finds none. Its methods may be called from any goroutine.
type Pool struct {
	limit int

	mu     sync.Mutex // guards what follows, and the lists of the reader
	taken  int        // places, by pipes and by reservations
	pipes  []*Pipe    // that are open, oldest first
	reader *reader    // nil while no place is taken
}

// New returns a Pool of at most limit pipes.
func New(limit int) *Pool { return &Pool{limit: limit} }

// An Origin says where a pipe comes from. The Pool keeps it and does not look at it.
type Origin struct {
	PID           int    // of the leader
	Program       string // its name
	FD            int    // which output of it
	HeldElsewhere bool   // no process of its tree was seen to have it
	Since         time.Time
}

// A Pipe is the reading end of a pipe that a Pool has.
type Pipe struct {
	Origin
	pool   *Pool
	reader *reader
	end    pipe.End          // the reader's
	buf    *[bufferSize]byte // the reader's: in use by a call on a pipe that a process holds
	early  bool              // the reader's: such a call was under way at Take, and wakes the owner of before
	bytes  atomic.Int64      // by the reader
	ended  chan struct{}     // closed by the reader, after the end
	leaves bool              // it ended, or Close was called; guarded by the Pool's mu
}

// Reserve takes n places. It reports false, and takes none, where there are not so many. The error
// says that there is nothing to wait with, for want of descriptors perhaps.
func (d *Pool) Reserve(n int) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.taken+n > d.limit {
		return false, nil
	}
	if d.reader == nil {
		p, err := poll.New()
		if err != nil {
			return false, err
		}
		d.reader = newReader(d, p)
	}
	d.taken += n
	return true, nil
}

// Free gives n reserved places back.
func (d *Pool) Free(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free(n)
}

// free gives places back. With the last one the reader goes, whose poller is a descriptor. A reader
// whose goroutine is on its way out closes it itself: only it knows when it waits no more.
func (d *Pool) free(n int) {
	if d.taken -= n; d.taken > 0 {
		return
	}
	r := d.reader
	d.reader = nil
	if r == nil {
		return
	}
	if r.running {
		r.retired = true
	} else {
		r.poller.Close()
	}
}

// Take begins to discard what comes out of end, which must not block, and takes one of the reserved
// places. The caller has no end any more.
func (d *Pool) Take(end *pipe.End, from Origin) *Pipe {
	p := &Pipe{Origin: from, pool: d, end: end.Move(), ended: make(chan struct{})}
	p.early = p.end.Held()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.reader
	p.reader = r
	p.end.Notify(r.poller.Wake)
	d.pipes = append(d.pipes, p)
	r.arrived = append(r.arrived, p)
	if r.running {
		r.poller.Wake()
	} else {
		r.running = true
		go r.run()
	}
	return p
}

// Pipes returns the pipes that are open, oldest first.
func (d *Pool) Pipes() []*Pipe {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.pipes)
}

// Bytes returns how many bytes were discarded.
func (p *Pipe) Bytes() int64 { return p.bytes.Load() }

// Ended returns a channel that is closed once the pipe is: no writer was left, or Close was called.
func (p *Pipe) Ended() <-chan struct{} { return p.ended }

// Close closes the pipe: a process that writes to it gets SIGPIPE. When it returns the descriptor is closed, or
// will be once a process that holds the pipe lets go of it.
func (p *Pipe) Close() {
	p.pool.mu.Lock()
	if !p.leaves {
		p.leaves = true
		p.reader.leaving = append(p.reader.leaving, p)
		p.reader.poller.Wake()
	}
	p.pool.mu.Unlock()
	<-p.ended
}
