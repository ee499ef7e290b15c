package poll

import (
	"math"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// nearBound is how near the end of a wait an alarm tells it. The runtime's own timers come up to a millisecond
// late where nothing else goes on: it waits for them in epoll_wait(2), which counts in those.
const nearBound = 2 * time.Millisecond

// tokenAlarm is no descriptor's.
const tokenAlarm = math.MinInt32

// An alarm is a timer of the kernel's that an epoll instance watches (timerfd_create(2)), made when it is first
// asked for. Where none can be had the runtime's has to do.
type alarm struct {
	fd            int
	open, refused bool
}

// set has the alarm go off once, after the time given and not when it was set for before. It reports whether it
// will.
func (a *alarm) set(epoll int, after time.Duration) bool {
	if after <= 0 || a.refused || !a.open && !a.make(epoll) {
		return false
	}
	return sys.SetTimer(a.fd, after) == nil
}

func (a *alarm) make(epoll int) bool {
	fd, err := sys.NewTimer()
	if err == nil {
		// Edge-triggered: nobody has to read it to have it silent again.
		if err = sys.EpollAdd(epoll, fd, sys.EpollIn|sys.EpollEdge, tokenAlarm); err != nil {
			sys.Close(fd)
		}
	}
	a.fd, a.open, a.refused = fd, err == nil, err != nil
	return a.open
}

// cut takes the alarm out of what epoll_wait returned, and reports whether it was there.
func (a *alarm) cut(events []sys.EpollEvent) (rest int, rang bool) {
	for _, e := range events {
		if e.Fd == tokenAlarm {
			rang = true
			continue
		}
		events[rest] = e
		rest++
	}
	return rest, rang
}

func (a *alarm) close() {
	if a.open {
		sys.Close(a.fd)
		a.open = false
	}
}
