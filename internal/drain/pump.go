package drain

import (
	"errors"
	"io"
	"sync"
	"syscall"
	"time"
)

// pumpDepth is how many chunks may wait while another is written: with one, the next read overlaps the present Write.
const pumpDepth = 1

// A Pump writes chunks to a Writer that may block for ever, on a goroutine of its own. That starts with the first
// chunk, and ends after Finish or Abandon as soon as the Writer returns. Put hands it chunks, until it is lent the pipe
// and reads them by itself: see [Output.Lend]. Put, Room, Finish and Abandon are for the run's goroutine.
type Pump struct {
	w      io.Writer
	notify func() // wakes the run: if wanted, after an error, or for the pipe that is lent
	queue  chan filled
	open   bool         // queue was made and not closed; the run's own
	atEnd  func() error // of AtEnd; or nil

	mu        sync.Mutex
	wanted    bool      // the run waits for room or for the end
	since     time.Time // start of the present Write; zero between calls
	waiting   int       // chunks handed over and not yet written
	delivered int64
	err       error // the Writer's first; later chunks are dropped
	abandoned bool

	// Of the pipe that is lent.
	drawing bool      // it is the goroutine's
	reading bool      // the goroutine is in a read of it
	ended   bool      // the goroutine has met its end
	pipeErr error     // the error that it met there
	last    time.Time // when the goroutine last read a byte
}

// filled is the first n bytes of a chunk, or the order to draw, or to call atEnd.
type filled struct {
	chunk *chunk
	n     int
	draw  func()
	last  bool
}

func newPump(w io.Writer, notify func()) *Pump { return &Pump{w: w, notify: notify} }

// Room reports whether Put may be called. If not, notify is called when it may. After Abandon there is always room, for
// bytes to drop.
func (p *Pump) Room() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := p.waiting <= pumpDepth || p.abandoned
	p.wanted = !room
	return room
}

// Put hands over the first n bytes of c, and reports whether it took c. A Writer that has failed is not called again:
// its bytes are dropped, and the command lives on.
func (p *Pump) Put(c *chunk, n int) bool {
	p.mu.Lock()
	failed := p.err != nil || p.abandoned
	if !failed {
		p.waiting++
	}
	p.mu.Unlock()
	if failed {
		return false
	}
	if p.queue == nil {
		p.queue = make(chan filled, 3+pumpDepth) // also for the orders to draw and to end
		p.open = true
		go p.run(p.queue)
	}
	p.queue <- filled{chunk: c, n: n} // has room: Room was asked before
	return true
}

func (p *Pump) run(queue <-chan filled) {
	for f := range queue {
		if f.draw != nil {
			f.draw()
		} else {
			p.one(f)
		}
	}
}

// lend makes the goroutine call draw once it has written what was put. It reports false where there is no goroutine, or
// nothing is written any more. Room was asked before.
func (p *Pump) lend(draw func()) bool {
	p.mu.Lock()
	p.drawing = p.open && p.err == nil && !p.abandoned
	drawing := p.drawing
	p.mu.Unlock()
	if drawing {
		p.queue <- filled{draw: draw}
	}
	return drawing
}

func (p *Pump) setDrawing(drawing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drawing = drawing
}

// drawn reports whether the goroutine reads the pipe, and whether and with what error it met the end.
func (p *Pump) drawn() (drawing, ended bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drawing, p.ended, p.pipeErr
}

// beginReading reports whether the goroutine may read the pipe.
func (p *Pump) beginReading() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = p.drawing
	return p.reading
}

// whileDrawing calls f, which uses the pipe for a moment, unless the run has taken the pipe back.
func (p *Pump) whileDrawing(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawing {
		f()
	}
}

// endReading records the result of a read, and reports whether the run waits for it, to have the pipe back.
func (p *Pump) endReading(n int, err error) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading = false
	news = !p.drawing
	switch {
	case n > 0:
		p.waiting++
		p.last = time.Now()
	case !errors.Is(err, syscall.EAGAIN):
		p.drawing, p.ended, p.pipeErr = false, true, err
	}
	return news
}

// stillReading reports whether a read of the pipe is under way.
func (p *Pump) stillReading() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reading
}

// stopDrawing ends the goroutine's reading, and reports whether that is news to the run, as it is not after TakeBack.
func (p *Pump) stopDrawing() (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	news = p.drawing || p.ended
	p.drawing = false
	return news
}

func (p *Pump) lastDrawn() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// one writes one chunk. A Writer that ends the goroutine instead of returning (runtime.Goexit) has failed.
func (p *Pump) one(f filled) {
	n, err := 0, errWriterGone
	defer func() {
		p.end(n, err)
		if f.chunk != nil {
			f.chunk.giveBack()
		}
	}()
	if f.n == 0 && !f.last || !p.begin() {
		err = nil
		return
	}
	if f.last {
		err = p.atEnd()
		return
	}
	n, err = write(p.w, f.chunk.buf[:f.n])
}

var errWriterGone = errors.New("writer ended its goroutine")

// begin reports whether the next chunk is to be written.
func (p *Pump) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.abandoned || p.err != nil {
		return false
	}
	p.since = time.Now()
	return true
}

func (p *Pump) end(n int, err error) {
	p.mu.Lock()
	p.since = time.Time{}
	p.waiting--
	if !p.abandoned {
		// After Abandon the run may have read the counts, which must not change then.
		p.delivered += int64(n)
		if p.err == nil {
			p.err = err
		}
	}
	call := (p.wanted || err != nil) && !p.abandoned // an error may be a reason to end the run
	if err == errWriterGone {                        //nolint:errorlint // the very value
		// The goroutine ends: what is queued, or about to be by a Put or lend that did not see the error, is dropped.
		p.waiting = 0
		call = call || p.drawing
		p.drawing = false // the run has to read
	}
	p.mu.Unlock()
	if call {
		p.notify()
	}
}

// Finish ends the queue, and reports whether every chunk was written, dropped, or given up by Abandon. If not, notify
// is called after each of them.
func (p *Pump) Finish() bool {
	p.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = (p.waiting > 0 || p.reading) && !p.abandoned
	return !p.wanted
}

func (p *Pump) close() {
	if !p.open {
		return
	}
	p.open = false
	p.mu.Lock()
	ends := p.atEnd != nil && p.err == nil && !p.abandoned
	if ends {
		p.waiting++
	}
	p.mu.Unlock()
	if ends {
		p.queue <- filled{last: true}
	}
	close(p.queue)
}

// Busy returns when the present Write began; zero if there is none.
func (p *Pump) Busy() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.since
}

// Abandon gives up the Writer and its present call.
func (p *Pump) Abandon() {
	p.mu.Lock()
	p.abandoned = true
	p.mu.Unlock()
	p.close()
}

// Delivered returns how many bytes the Writer took.
func (p *Pump) Delivered() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delivered
}

// Err returns the Writer's first error.
func (p *Pump) Err() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
