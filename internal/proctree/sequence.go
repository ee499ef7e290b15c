package proctree

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A serial is the place of a PID in the sequence in which the kernel hands them out, counted over all
// laps. It means one process for good, as the number alone does not. 0 is unknown.
type serial uint64

// A sequence follows the PIDs of our namespace from reading to reading. If time says that less than a lap
// can have passed between two of them, the second one's serial is exact; and so it is after any number of
// laps as long as readings come in time, for which see [keeper]. Otherwise it goes on more than a lap further
// on, so that nothing from before is taken for near.
type sequence struct {
	read func() (pid int, ok bool) // the PID that was given out last

	sync.Mutex
	serial  serial    // of the furthest reading
	at      time.Time // not after it
	askedAt time.Time // when pid_max was looked at
	anchor  anchor
}

// An anchor is a reading whose effort is known. While the kernel has worked for less than a lap since, a reading is
// near it, however long it took to come: a look checks thousands of processes on a processor that others use as well,
// and each time that it is preempted can be longer than all processors together need for a lap.
type anchor struct {
	serial serial
	at     time.Time
	effort effort // before the reading
}

// anchorAge is for how long an anchor is of use, and anchorEvery how far apart they are: /proc/stat is
// expensive on large machines.
const (
	anchorAge   = time.Second
	anchorEvery = 10 * time.Millisecond
)

var pids = sequence{read: readLastPID}

// lastPID returns the PID that was given out last in our PID namespace.
func lastPID() (int, bool) {
	pid, _, ok := pids.last()
	return pid, ok
}

// limitAge is how old the known pid_max may be. If it is lowered while commands run, a lap can pass unseen
// for that long.
const limitAge = time.Second

// last returns the PID that was given out last, and its serial if that can be told.
func (s *sequence) last() (pid int, n serial, ok bool) {
	// What is known comes before the reading, which is made without the lock: so the reading is the later one.
	now := time.Now()
	known, at, limit := s.furthest(now, limitAge)
	a := s.lastAnchor()
	if pid, ok = s.read(); !ok {
		return 0, 0, false
	}
	if pid >= limit {
		s.furthest(now, 0)
		return pid, 0, true
	}
	near := known != 0 && sound(time.Since(at), limit, cpus.get())
	if !near && a.serial != 0 && now.Sub(a.at) < anchorAge && a.effort.lessThanALap() {
		known, near = a.serial, true
	}
	return pid, s.follow(known, near, pid, limit, now), true
}

// anchored is last, and drops an anchor if the last one is not fresh.
func (s *sequence) anchored() (pid int, n serial, ok bool) {
	a := anchor{at: time.Now()}
	if a.at.Sub(s.lastAnchor().at) < anchorEvery {
		return s.last()
	}
	a.effort = effortSoFar()
	pid, n, ok = s.last()
	s.Lock()
	defer s.Unlock()
	if a.serial = n; ok && n == s.serial && a.effort.known { // or others have gone on
		s.anchor = a
	}
	return pid, n, ok
}

func (s *sequence) lastAnchor() anchor {
	s.Lock()
	defer s.Unlock()
	return s.anchor
}

// A pulse reads the last PID as often as is necessary while a look checks all processes of a list, at its first beat
// too: if they are many, or slow to answer, more PIDs could be used up in that time than there are.
type pulse struct {
	every time.Duration
	last  time.Time
}

func newPulse() pulse { return pulse{every: lapTime(pidMax.get(), cpus.get()) / 4} }

func (p *pulse) beat() {
	if now := time.Now(); now.Sub(p.last) >= p.every {
		_, _, _ = pids.anchored()
		p.last = now
	}
}

// furthest returns what is known: the furthest reading, the time that it is not before, and pid_max. If pid_max
// was looked at longer ago than age, it is looked at again.
func (s *sequence) furthest(now time.Time, age time.Duration) (known serial, at time.Time, limit int) {
	s.Lock()
	defer s.Unlock()
	if now.Sub(s.askedAt) >= age {
		s.askedAt = now
		if pidMax.ask() {
			s.at, s.anchor = time.Time{}, anchor{} // laps are of another length
		}
	}
	return s.serial, s.at, pidMax.get()
}

// follow goes on to pid, which was read after the serial known and after the time at, near it if less than
// a lap lies between. It returns the serial of pid, 0 if that cannot be told.
func (s *sequence) follow(known serial, near bool, pid, limit int, at time.Time) serial {
	s.Lock()
	defer s.Unlock()
	if pid < reservedPIDs || limit != pidMax.get() {
		return 0 // a first lap has begun at 1, or laps are of another length by now
	}
	lap := lapOf(limit)
	var n serial
	switch place := serial(pid - reservedPIDs); {
	case near:
		n = known + (place+lap-known%lap)%lap
	case s.serial != known:
		return 0 // another has gone on meanwhile, and from where is not known here
	default:
		n = (known/lap+3)*lap + place
	}
	if n >= s.serial {
		s.serial = n
		if at.After(s.at) {
			s.at = at
		}
	}
	return n
}

// lapOf returns how many numbers a lap has.
func lapOf(pidMax int) serial { return serial(max(pidMax-reservedPIDs, 1)) }

// before returns the serial of pid, which was handed out less than a lap before the PID last with the serial n.
func (n serial) before(pid, last int) serial {
	lap := lapOf(pidMax.get())
	if n == 0 || pid < reservedPIDs || serial(pid) >= reservedPIDs+lap {
		return 0
	}
	return n - (serial(last)+lap-serial(pid))%lap
}

// leaders are the serials of the leaders that this process has started last, each in the place that its lowest
// bits name. The process that got such a number is our child, and no descendant of another leader: alive or long
// reaped, it needs no check. When many commands run at once, most of a birth window is that.
var leaders [maxLateProbes]atomic.Uint64

func (n serial) lead() {
	if n != 0 {
		leaders[n%serial(len(leaders))].Store(uint64(n))
	}
}

// leads reports whether the process of that serial was a leader. It may have been forgotten.
func (n serial) leads() bool {
	return n != 0 && leaders[n%serial(len(leaders))].Load() == uint64(n)
}

func readLastPID() (int, bool) {
	var buf [128]byte
	n, err := sys.ReadLoadavg(buf[:])
	if err != nil {
		return 0, false
	}
	avg, err := procfs.ParseLoadavg(buf[:n])
	return avg.LastPID, err == nil && avg.LastPID > 0
}

// A fact is a number that the kernel is asked for once. A failure, for want of a descriptor perhaps, is not
// remembered.
type fact struct {
	value atomic.Int64 // 0 until it is known
	read  func() int
}

func (f *fact) get() int {
	if n := f.value.Load(); n != 0 {
		return int(n)
	}
	n := f.read()
	f.value.Store(int64(n))
	return n
}

// ask asks again, and reports whether the answer changed. Without an answer, as after chroot(2), the last one stands.
func (f *fact) ask() bool {
	n := int64(f.read())
	return n != 0 && f.value.Swap(n) != n
}

// pidMax is /proc/sys/kernel/pid_max, the number after the highest PID; 0 if unknown. It can change, and does while
// many systems start: see [sequence.last].
var pidMax = fact{read: func() int {
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(string(bytes.TrimSpace(text)))
	return max(n, 0)
}}

// cpus is how many CPUs the machine can have; 0 if unknown.
var cpus = fact{read: func() int {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible") // "0-63"
	if err != nil {
		return 0
	}
	text = bytes.TrimSpace(text)
	n, err := strconv.Atoi(string(text[bytes.LastIndexByte(text, '-')+1:]))
	if err != nil {
		return 0
	}
	return n + 1
}}
