package discard

import (
	"errors"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/poll"
)

// A reader is a poller and the goroutine that waits in it, which runs while there are pipes. Fields
// without a remark belong to that goroutine.
type reader struct {
	pool   *Pool
	poller poll.Poller
	open   map[int]*Pipe // by descriptor, which is the token
	blind  map[int]*Pipe // of them, those that the poller does not watch

	// Guarded by the Pool's mu.
	running bool    // the goroutine
	retired bool    // it closes the poller when it ends
	arrived []*Pipe // to be met
	leaving []*Pipe // to be closed
}

func newReader(d *Pool, p poll.Poller) *reader {
	return &reader{pool: d, poller: p, open: map[int]*Pipe{}, blind: map[int]*Pipe{}}
}

// blindPause is the time between two looks at pipes that cannot be watched, for want of descriptors or of what epoll(7)
// allows a user: 64 KiB a look is 6 MB/s then.
const blindPause = 10 * time.Millisecond

// run reads whatever is ready, once a turn, so that one that always is does not keep others waiting.
func (r *reader) run() {
	for r.admit() {
		var until time.Time
		for _, p := range r.blind {
			if p.buf == nil || p.early {
				until = time.Now().Add(blindPause)
			} // else the call that a process holds up wakes the poller
		}
		events, err := r.poller.Wait(until)
		if err != nil { // never seen; but no loop without a pause, and no pipe left without a reader
			time.Sleep(blindPause)
			for _, p := range r.open {
				r.read(p)
			}
			continue
		}
		for _, e := range events {
			if p := r.open[e.Token]; p != nil {
				r.read(p)
			}
		}
		for _, p := range r.blind {
			r.read(p)
		}
	}
}

// admit meets the pipes that came and closes those that are to leave. It reports false if none is left, and then
// the goroutine is not running any more: the next pipe starts another.
func (r *reader) admit() bool {
	d := r.pool
	d.mu.Lock()
	arrived, leaving := r.arrived, r.leaving
	r.arrived, r.leaving = nil, nil
	d.mu.Unlock()
	for _, p := range arrived {
		r.open[p.end.FD()] = p
		r.blind[p.end.FD()] = p
	}
	for _, p := range leaving {
		if p.end.Open() {
			r.finish(p)
		}
	}
	for fd, p := range r.blind { // also those for which there was no room before
		if p.buf == nil && r.poller.Add(fd, poll.Read, fd) == nil {
			delete(r.blind, fd)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(r.open) > 0 || len(r.arrived) > 0 {
		return true
	}
	r.running = false
	if r.retired {
		r.poller.Close()
	}
	return false
}

// bufferSize is what one read takes at most: all of a pipe of the default size.
const bufferSize = 64 << 10

// buffers lends what is read into. To splice(2) the bytes to /dev/null copies nothing and was slower all
// the same, 155 ns a KiB against 121: it gives back each page, and the writer has to get another.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// read takes once from a pipe, and closes it at its end. One that a process holds keeps its buffer, and is not
// watched until the call is back.
func (r *reader) read(p *Pipe) {
	if p.buf == nil {
		p.buf = buffers.Get().(*[bufferSize]byte)
	}
	n, err := p.end.Read(p.buf[:])
	fd := p.end.FD()
	if errors.Is(err, drain.ErrHeld) {
		if r.blind[fd] == nil {
			_ = r.poller.Remove(fd)
			r.blind[fd] = p
		}
		return
	}
	buffers.Put(p.buf)
	p.buf, p.early = nil, false
	p.bytes.Add(int64(n))
	if n == 0 && !errors.Is(err, syscall.EAGAIN) {
		r.finish(p)
	}
}

// finish closes a pipe and gives its place back. The close, which a process can hold up for a moment, is made without
// the lock.
func (r *reader) finish(p *Pipe) {
	fd := p.end.FD()
	if r.blind[fd] == nil {
		_ = r.poller.Remove(fd)
	}
	p.end.Close()
	delete(r.open, fd)
	delete(r.blind, fd)
	d := r.pool
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pipes = slices.DeleteFunc(d.pipes, func(other *Pipe) bool { return other == p })
	p.leaves = true
	d.free(1)
	close(p.ended)
}
