// Package poll lets one goroutine wait for many descriptors, a deadline and a wake-up at once,
// without an OS thread that blocks and without a goroutine a descriptor.
//
// On Linux a [Poller] is an epoll instance of its own that the Go runtime's poller watches. Elsewhere,
// and where epoll is refused, a portable poller does the same with a goroutine a descriptor.
package poll

import (
	"errors"
	"time"
)

// A Direction is what a descriptor is watched for.
type Direction int

// The directions. A hangup is reported for both.
const (
	Read Direction = iota
	Write
	// Change is what a file that the kernel writes tells of itself, such as cgroup.events: what it says
	// now is not what was last read. Only epoll can watch for it.
	Change
)

// An Event says that a descriptor became ready. The watch is level-triggered: what is ready and
// stays ready is reported by each Wait.
type Event struct {
	Token  int  // the token given to Add
	Ready  bool // a read, or a write, will not block
	Hangup bool // the other end is gone; for a Read watch without Ready: at the end, nothing is left to read
}

// A Poller waits for descriptors. Its methods belong to one goroutine at a time, except Wake.
type Poller interface {
	// Add watches fd until Remove or Close. The caller closes fd after that, never before.
	Add(fd int, dir Direction, token int) error
	// SetsNonblock reports whether Add sets O_NONBLOCK, which lives in the open file description:
	// a descriptor that others use must not be watched then.
	SetsNonblock() bool
	// Remove ends the watch on fd.
	Remove(fd int) error
	// Wait returns what is ready, at least one event unless the deadline has passed or Wake was
	// called since the last Wait, by a user of old perhaps. The zero time is no deadline. The events
	// are valid until the next call.
	Wait(deadline time.Time) ([]Event, error)
	// Wake makes the present or the next Wait return. Any goroutine may call it, any number of
	// times, also after Close.
	Wake()
	// Close releases everything. The goroutine that waits calls it, once, and no other method but
	// Wake after it.
	Close()
}

// New returns a Poller: the platform's own, else the portable one.
func New() (Poller, error) {
	p, err := newNative()
	if err == nil {
		return p, nil
	}
	// A full descriptor table is the caller's to hear about: the portable poller needs even more.
	if fullTable(err) {
		return nil, err
	}
	p, perr := newPortable()
	if perr != nil {
		return nil, errors.Join(err, perr)
	}
	return p, nil
}
