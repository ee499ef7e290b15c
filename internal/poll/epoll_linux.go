package poll

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// epoll is an epoll instance wrapped by an os.File, so that the runtime's poller waits for it: an
// epoll descriptor is itself readable while it has events (epoll(7)). The runtime watches it
// edge-triggered, which is enough, since the goroutine parks only after epoll_wait returned nothing.
type epoll struct {
	fd   int
	file *os.File
	conn syscall.RawConn
	take func(fd uintptr) bool // fetch, bound once so that Wait allocates nothing

	watches int // added and not removed

	set    time.Time   // the deadline that the file has, unless moved or stale
	woken  atomic.Bool // set by Wake, cleared by Wait
	moved  atomic.Bool // set by Wake, which moves the file's deadline; cleared by Wait
	stale  bool        // the deadline passed, or was moved, and has to be set again
	failed bool        // Wait failed: not to be used again

	events [batch]Event
	n      int   // filled part of events
	err    error // of the last fetch
}

// batch is how many events one Wait returns at most: two outputs, the input and the exit are what most runs have.
const batch = 4

// idle holds the instances that are not in use: making one, registering it with the runtime's poller
// and closing it is a fifth of the cost of a run that does nothing. At most maxIdle stay open for the
// life of the process.
//
// An idle instance watches nothing, and its deadline is the one that its last user left. A Wake
// that comes after Close wakes the next user of the instance, once and for nothing.
var idle = make(chan *epoll, maxIdle)

const maxIdle = 16

// CloseIdle closes what is kept for reuse. Tests that count descriptors call it.
func CloseIdle() {
	for {
		select {
		case p := <-idle:
			p.release()
		default:
			return
		}
	}
}

func newNative() (Poller, error) {
	select {
	case p := <-idle:
		return p, nil
	default:
		return openEpoll()
	}
}

func openEpoll() (*epoll, error) {
	fd, err := sys.EpollCreate()
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &epoll{fd: fd, file: os.NewFile(uintptr(fd), "epoll")}
	// A file that the runtime could not register has no deadlines, and Wait would never be woken.
	if err := p.file.SetReadDeadline(time.Time{}); err != nil {
		p.file.Close()
		return nil, err
	}
	p.conn, err = p.file.SyscallConn()
	if err != nil {
		p.file.Close()
		return nil, err
	}
	p.take = p.fetch
	return p, nil
}

func (p *epoll) Add(fd int, dir Direction, token int) error {
	events := uint32(sys.EpollIn)
	switch dir {
	case Write:
		events = sys.EpollOut
	case Change:
		events = sys.EpollChange
	case Read:
	}
	if err := sys.EpollAdd(p.fd, fd, events, int32(token)); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.watches++
	return nil
}

func (p *epoll) SetsNonblock() bool { return false }

func (p *epoll) Remove(fd int) error {
	if err := sys.EpollRemove(p.fd, fd); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.watches--
	return nil
}

// fetch reports whether the wait is over.
func (p *epoll) fetch(fd uintptr) bool {
	var raw [batch]sys.EpollEvent
	n, err := sys.EpollPoll(int(fd), raw[:])
	p.n, p.err = n, err
	for i, e := range raw[:n] {
		p.events[i] = Event{
			Token:  int(e.Fd),
			Ready:  e.Events&(sys.EpollIn|sys.EpollOut|sys.EpollChange) != 0,
			Hangup: e.Events&sys.EpollHangup != 0,
		}
	}
	return p.n > 0 || err != nil
}

// Wait orders three steps against Wake's two, so that no wake-up is lost. Wait: set the deadline,
// look at woken, park. Wake: set woken, then move the deadline into the past. If Wake's store comes
// before Wait's look, Wait sees it. If it comes after, Wake's deadline comes after Wait's and ends
// the park. A Wake that is late for one Wait costs the next one an empty round and nothing more.
// Where Wait leaves the deadline as it is, it overwrites nothing of Wake's.
//
// An earlier deadline than asked for is left as it is: to come too early costs one round more, once,
// and to move a timer costs every run. Runs with the same timeout follow each other on one instance.
//
// A deadline can come a millisecond late: the runtime waits in epoll_wait(2), which counts in those.
func (p *epoll) Wait(deadline time.Time) ([]Event, error) {
	for {
		if p.moved.Swap(false) || p.stale || later(p.set, deadline) || onWall(p.set) || onWall(deadline) {
			if err := p.file.SetReadDeadline(deadline); err != nil {
				p.failed = true
				return nil, err
			}
			p.set, p.stale = deadline, false
		}
		if p.woken.Swap(false) {
			p.fetch(uintptr(p.fd))
			break
		}
		err := p.conn.Read(p.take)
		if err == nil {
			break
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			p.failed = true
			return nil, err
		}
		early := later(deadline, p.set)
		p.stale = true // it passed, or was moved
		if woken := p.woken.Swap(false); woken || !early {
			p.fetch(uintptr(p.fd)) // the runtime looks at the deadline first: what is ready is still reported
			break
		}
	}
	if p.err != nil {
		p.failed = true
		return nil, os.NewSyscallError("epoll_wait", p.err)
	}
	return p.events[:p.n], nil
}

// later reports whether deadline a is after b, or none while b is one.
func later(a, b time.Time) bool { return !b.IsZero() && (a.IsZero() || a.After(b)) }

// onWall reports whether t has no monotonic reading, so that the clock may have been set since: of two such
// times the one that looks earlier may come later.
func onWall(t time.Time) bool {
	type reading struct{ time.Time } // compared with its monotonic part, which Equal leaves out
	return !t.IsZero() && reading{t} == reading{t.Round(0)}
}

func (p *epoll) Wake() {
	p.woken.Store(true)
	p.moved.Store(true)
	// After Close this fails, and nothing waits any more.
	_ = p.file.SetReadDeadline(past)
}

// Close keeps the instance for the next user, unless a watch is left: closing a descriptor does not end
// its watch while a child between fork and exec has a copy of it (epoll(7)), and the next user would get
// events of another's descriptors.
func (p *epoll) Close() {
	if p.watches == 0 && !p.failed {
		p.woken.Store(false)
		select {
		case idle <- p:
			return
		default:
		}
	}
	p.release()
}

func (p *epoll) release() {
	p.file.Close()
}

// past is long gone, whatever the clock says.
var past = time.Unix(1, 0)
