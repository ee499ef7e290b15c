package poll

import (
	"math"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// nearBound is how near the end of a wait an alarm is set. The runtime's own timers come up to a millisecond
// late where nothing else goes on: it waits for them in epoll_wait(2), which counts in those.
const nearBound = 2 * time.Millisecond

// alarmAfter is by how much an alarm comes after the file's deadline. Where goroutines always are ready to run
// the runtime looks at its timers all the time and at descriptors every 10 ms, and whoever is woken by one waits
// behind all others: there the deadline is to be the first.
const alarmAfter = 50 * time.Microsecond

// tokenAlarm is no descriptor's.
const tokenAlarm = math.MinInt32

// An alarm is a timer of the kernel's in an epoll instance (timerfd_create(2)), made when it is first asked for.
// Where none can be had the file's deadline has to do.
type alarm struct {
	fd      int
	open    bool
	refused bool // none could be had
	set     bool // and has not gone off
}

// aim has the alarm go off at the end of a wait that is near, and of no other.
func (a *alarm) aim(epoll int, left time.Duration) {
	if left <= 0 || left > nearBound || a.refused || !a.open && !a.make(epoll) {
		a.disarm()
		return
	}
	a.set = sys.SetTimer(a.fd, left+alarmAfter) == nil
}

// disarm has it not go off: whoever is woken for nothing waits behind all others as well.
func (a *alarm) disarm() {
	if a.set {
		a.set = false
		_ = sys.SetTimer(a.fd, 0)
	}
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

// is reports whether it is the alarm that has gone off.
func (a *alarm) is(e sys.EpollEvent) bool {
	if e.Fd != tokenAlarm {
		return false
	}
	a.set = false
	return true
}

// idle makes the alarm one for whoever has the instance next, who may be luckier.
func (a *alarm) idle() {
	a.disarm()
	a.refused = false
}

func (a *alarm) close() {
	if a.open {
		sys.Close(a.fd)
		a.open = false
	}
}
