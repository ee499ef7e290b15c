//go:build linux || darwin || freebsd || openbsd || netbsd

package poll

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

func fullTable(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// portable watches each descriptor with a goroutine that the runtime's poller parks. A watcher
// reports once and rests until the next Wait arms it again, which makes the whole level-triggered.
type portable struct {
	watchers map[int]*watcher // by descriptor; owned by the waiting goroutine
	reports  chan report      // from the watchers to Wait
	wake     chan struct{}    // capacity 1
	closed   chan struct{}
	running  sync.WaitGroup
	timer    *time.Timer
	events   []Event
}

// A watcher owns a duplicate of the descriptor, so that closing it ends the goroutine and nothing else.
type watcher struct {
	file    *os.File
	dir     Direction
	token   int
	arm     chan struct{} // capacity 1; closed by Remove
	resting bool          // owned by the waiting goroutine: the watcher waits for arm
	gone    chan struct{} // closed by Remove: a report not yet taken is dropped
}

// A report is what a watcher found. It names the watcher: one that was removed meanwhile is not heard.
type report struct{ w *watcher }

func newPortable() (Poller, error) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &portable{
		watchers: make(map[int]*watcher),
		reports:  make(chan report),
		wake:     make(chan struct{}, 1),
		closed:   make(chan struct{}),
		timer:    timer,
	}, nil
}

func (p *portable) Add(fd int, dir Direction, token int) error {
	if dir == Change {
		return errors.ErrUnsupported
	}
	if p.watchers[fd] != nil {
		return os.NewSyscallError("epoll_ctl", syscall.EEXIST)
	}
	dup, err := sys.Dup(fd)
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	if err := sys.SetNonblock(dup); err != nil {
		sys.Close(dup)
		return os.NewSyscallError("fcntl", err)
	}
	w := &watcher{
		file:    os.NewFile(uintptr(dup), "watched"),
		dir:     dir,
		token:   token,
		arm:     make(chan struct{}, 1),
		resting: true,
		gone:    make(chan struct{}),
	}
	p.watchers[fd] = w
	p.running.Go(func() { p.watch(w) })
	return nil
}

func (p *portable) watch(w *watcher) {
	conn, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	for range w.arm {
		var found sys.Readiness
		look := func(fd uintptr) bool {
			found, err = sys.Ready(int(fd))
			ready := found.Readable
			if w.dir == Write {
				ready = found.Writable
			}
			return ready || found.Hangup || err != nil
		}
		var waitErr error
		if w.dir == Write {
			waitErr = conn.Write(look)
		} else {
			waitErr = conn.Read(look)
		}
		if waitErr != nil {
			return // closed
		}
		select {
		case p.reports <- report{w}:
		case <-w.gone:
			return
		case <-p.closed:
			return
		}
	}
}

func (p *portable) SetsNonblock() bool { return true }

func (p *portable) Remove(fd int) error {
	w, ok := p.watchers[fd]
	if !ok {
		return os.ErrInvalid
	}
	delete(p.watchers, fd)
	close(w.gone)
	close(w.arm)
	return w.file.Close()
}

func (p *portable) Wait(deadline time.Time) ([]Event, error) {
	var expired <-chan time.Time
	if !deadline.IsZero() {
		p.timer.Reset(time.Until(deadline))
		defer p.timer.Stop()
		expired = p.timer.C
	}
	for {
		for _, w := range p.watchers {
			if w.resting {
				w.resting = false
				w.arm <- struct{}{}
			}
		}
		select {
		case r := <-p.reports:
			r.w.resting = true
			// The report may be stale: of a watch that was removed, or of bytes that were read since.
			if events := p.look(); len(events) > 0 {
				return events, nil
			}
		case <-p.wake:
			return p.look(), nil
		case <-expired:
			return p.look(), nil
		}
	}
}

// look asks every descriptor that is watched now. A report only says that it is time to: by the time
// it is taken the watch may be removed, the data read, or the watcher, of what is ready already, not
// have come to look.
func (p *portable) look() []Event {
	p.events = p.events[:0]
	for fd, w := range p.watchers {
		found, err := sys.Ready(fd)
		ready := found.Readable
		if w.dir == Write {
			ready = found.Writable
		}
		if err == nil && (ready || found.Hangup) {
			p.events = append(p.events, Event{Token: w.token, Ready: ready, Hangup: found.Hangup})
		}
	}
	return p.events
}

func (p *portable) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *portable) Close() {
	close(p.closed)
	for fd := range p.watchers {
		_ = p.Remove(fd)
	}
	p.running.Wait()
}
