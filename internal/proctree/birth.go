package proctree

import (
	"errors"
	"io/fs"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// A birth is where a tree began in the sequence of PIDs. The kernel hands PIDs out in order, so the PID of
// each descendant lies behind the leader's and not behind the last one given out: the birth window. A look at
// a young tree costs what was born since, not what lives on the machine.
//
// The window is sound while less than a lap of PIDs was handed out since the start. Time proves that, or
// serials, which are made of shorter times. Counting forks does not: a clone that fails late uses up a PID and
// is not counted in /proc/stat. If the window is not sound, or the last PID is unknown, every process is a
// candidate.
type birth struct {
	leader  int
	started time.Time
	serial  serial // the leader's; 0 if unknown
}

// maxProbes is the largest window that is probed number by number, at 0.2 µs each. Listing /proc is cheaper
// than a larger one.
const maxProbes = 1 << 15

// maxLateProbes is maxProbes for a tree that is no longer young: the window grows with its age, and listing
// most machines takes less time than a larger one.
const maxLateProbes = 1 << 11

// reservedPIDs is where the sequence goes on after a lap (RESERVED_PIDS in the kernel).
const reservedPIDs = 300

// fastestClone is less than what one CPU takes to use up a PID: 11 µs for a clone that fails late.
const fastestClone = 5 * time.Microsecond

// fastestPID is less than what all CPUs together take to use up a PID. The kernel gives out and takes back each
// under one lock of the machine (pidmap_lock), which moves from CPU to CPU with the cache lines that it guards.
const fastestPID = 200 * time.Nanosecond

// manyCPUs stands in for an unknown number of CPUs: the machine may have more than we may use.
const manyCPUs = 1024

// An origin says where a PID comes from.
type origin int

const (
	anywhere    origin = iota
	birthWindow        // a process with the number got it after the leader got its own, or has had it since an earlier lap
)

// A visit is called with a PID.
type visit func(pid int, from origin)

// A lookout looks for processes among the candidates.
type lookout interface {
	// begin is called once a list is made, before any PID on it is considered.
	begin()
	// consider is called with a PID given out before the look began, or if that is not known.
	consider(pid int, from origin)
	// considerNew is called with a PID that may have been given out since.
	considerNew(pid int, from origin)
	// excludes reports whether the lookout does not look for the bearer.
	excludes(bearer) bool
	// toldAll is called once every process that existed when the look began was considered.
	toldAll()
	// found reports whether a process was found, so that another look is necessary anyway.
	found() bool
	// settles reports whether a look that finds nothing may be the last. It is not while the leader lives, which can
	// start a process right after it: then no list is repeated for a proof.
	settles() bool
	// patience returns until when the look waits for a list of all processes.
	patience() time.Time
	// waited is called with how long the look waited for other looks' lists.
	waited(time.Duration)
	// late reports whether the look's time is over.
	late() bool
	// grouped reports whether a signal to the leader's group reaches the process, so that it must be known even if the
	// look is late.
	grouped(pid int) bool
}

// candidates has l consider each PID that a descendant may have, and others. now is the last PID when the look began,
// with leader 0 if unknown. candidates reports false if it could not find out which processes there are.
//
// A chain that forks and exits can outrun it: the successor's number lies beyond the last. So it also goes through what
// was given out meanwhile, until nothing was, or until l found a process.
func (b *birth) candidates(l lookout, now birth) bool {
	var spent effort
	if b.near(now) {
		if !b.window(l, l.consider, now.leader, pidMax.get()) {
			return false
		}
	} else {
		at, whole, exact := list(l, l.consider, b.leader)
		if !whole || exact {
			return whole
		}
		spent, now = at.effort, at.last // a list takes long; its effort may still prove that it took less than a lap
	}
	if now.leader == 0 {
		return chaseForks(l, b.leader)
	}
	l.toldAll()
	lists := 0
	for range maxChases {
		if l.found() {
			return true
		}
		then := birth{started: time.Now()}
		var ok bool
		then.leader, then.serial, ok = pids.last()
		near := now.young() || now.follows(then.serial, pidMax.get()) || spent.lessThanALap()
		switch {
		case !ok:
			return chaseForks(l, b.leader)
		case !near && (l.late() || !l.settles()):
			return false
		case !near: // this process was stopped, or preempted
			if lists++; lists > maxLists {
				return false
			}
			at, whole, exact := list(l, l.considerNew, b.leader)
			if exact {
				return true
			}
			spent, then, ok = at.effort, at.last, whole && at.last.leader != 0
		case then.leader == now.leader:
			return true
		default:
			ok = now.window(l, l.considerNew, then.leader, pidMax.get())
		}
		if !ok {
			return false
		}
		now = then
	}
	return false
}

// near reports whether to probe what was given out since the leader's number, rather than list all processes.
func (b *birth) near(now birth) bool {
	return now.leader != 0 && (b.young() || b.follows(now.serial, maxLateProbes))
}

// glance is one pass of candidates, for a tree that is proved to be empty but for what escaped that proof.
func (b *birth) glance(l lookout, now birth) {
	if b.near(now) {
		b.window(l, l.consider, now.leader, pidMax.get())
	} else {
		everyPID(l, l.consider, b.leader, pidMax.get())
	}
}

// list calls f with every process. It returns the reading of before, and reports whether it could (whole), and whether
// those are proved to be all (exact): if no task was created meanwhile. The kernel counts a task in "processes" of
// /proc/stat at the moment it enters /proc. So a process that lives at the end lived all the time and f was called with
// it, even if it is in the middle of a clone. That holds however long the list takes, and whatever PIDs failed clones
// use up.
//
// Without that proof, unless a process was found, list makes a second list: a child in the middle of its fork has its
// number and is not in /proc yet, and its parent may have exited before f asks. The second list has the child.
func list(l lookout, f visit, after int) (first reading, whole, exact bool) {
	for range 2 {
		told, at := everyPID(l, f, after, pidMax.get())
		if first.last.started.IsZero() {
			first = at
		}
		if !told {
			return first, false, false
		}
		if l.found() {
			break
		}
		if at.forks != 0 && at.forks == readForks() {
			return first, true, true
		}
	}
	return first, true, false
}

// A reading is what the kernel said before a list of all processes was begun. It belongs to the list, since reading
// /proc/stat takes longer than most of what each look does.
type reading struct {
	effort effort
	forks  uint64 // tasks that were ever created; 0 if unknown, as in gVisor
	last   birth  // the last PID, read after the others; with leader 0 if unknown
}

func readKernel() (r reading) {
	if stat, err := kernelStat(); err == nil {
		r.effort, r.forks = effort{system: stat.System, known: true}, stat.Forks
	}
	r.last.started = time.Now()
	r.last.leader, r.last.serial, _ = pids.anchored()
	return r
}

func readForks() uint64 {
	stat, _ := kernelStat()
	return stat.Forks
}

// kernelStat is set by tests.
var kernelStat = procfs.ReadKernelStat

// An effort is the time that all CPUs together had spent in the kernel. Using up a PID adds to it; computing, sleeping
// and being preempted do not. So it can prove that less than a lap was used up where the clock cannot: if the look was
// preempted, or the machine has many idle CPUs. The kernel samples this time, so that a program that does its work
// between two samples can hide some.
type effort struct {
	system uint64 // hundredths of a second
	known  bool
}

// samplingError is how much too small the difference of two efforts may be, in hundredths of a second.
const samplingError = 2

func effortSoFar() effort {
	stat, err := kernelStat()
	return effort{system: stat.System, known: err == nil}
}

// lessThanALap reports whether less than a lap of PIDs was used up since e.
func (e effort) lessThanALap() bool {
	if !e.known {
		return false
	}
	now := effortSoFar()
	spent := time.Duration(now.system-e.system+samplingError) * 10 * time.Millisecond
	return now.known && now.system >= e.system && spent < lapTime(pidMax.get(), 1)
}

// chaseForks does without the last PID: it lists all processes until the machine forks nothing meanwhile. A busy
// machine may never come to that, since threads and other PID namespaces count too. Then chaseForks believes the
// lists, which all found nothing.
func chaseForks(l lookout, after int) bool {
	for began := time.Now(); ; {
		whole, at := everyPID(l, l.considerNew, after, pidMax.get())
		if !whole {
			return false
		}
		if l.found() || !l.settles() || at.forks == readForks() {
			return true
		}
		if time.Since(began) >= maxForkChase {
			return true
		}
	}
}

// maxForkChase bounds chaseForks by time and not by the number of lists: one takes some 100 µs, or many
// milliseconds among thousands of processes, and the look has a bound to keep.
const maxForkChase = 100 * time.Millisecond

// maxChases is how often candidates goes through the PIDs given out meanwhile; there is hardly time for a fork between
// two. maxLists is how often it lists all processes instead, which takes longer, and is necessary a few times if
// thousands of commands end together.
const (
	maxChases = 64
	maxLists  = 16
)

// childless reports whether no PID was given out since the leader's. Once the leader has exited that
// proves the tree empty: nothing is left that could fork.
func (b *birth) childless() bool {
	last, n, ok := pids.last()
	return ok && last == b.leader && (b.young() || b.follows(n, 0))
}

// place finds the leader's serial right after the start, and reports what childless does.
func (b *birth) place() bool {
	last, n, ok := pids.last()
	if !ok || !b.young() {
		return false
	}
	b.serial = n.before(b.leader, last)
	b.serial.lead()
	readings.keepUp()
	return last == b.leader
}

// follows reports whether the serial n is known to come after the leader's, by no more than most and less than a lap.
func (b *birth) follows(n serial, most int) bool {
	lap := lapOf(pidMax.get())
	return b.serial != 0 && n >= b.serial && n-b.serial <= min(serial(most), lap-lap/4)
}

// young reports whether the birth window is sound.
func (b *birth) young() bool { return sound(time.Since(b.started), pidMax.get(), cpus.get()) }

// sound reports whether less than a lap can have passed. A clock that runs backwards, as between the outside and the
// inside of a bubble of testing/synctest, or that stands still, as inside, proves nothing.
func sound(elapsed time.Duration, pidMax, cpus int) bool {
	return elapsed > 0 && elapsed < lapTime(pidMax, cpus)
}

// lapTime returns the least time that a lap takes. A quarter of the lap is a margin for numbers that are skipped since
// they are in use.
func lapTime(pidMax, cpus int) time.Duration {
	if cpus <= 0 {
		cpus = manyCPUs
	}
	lap := max(pidMax-reservedPIDs, 0)
	lap -= lap / 4
	return max(time.Duration(lap)*fastestClone/time.Duration(cpus), time.Duration(lap)*fastestPID)
}

// window calls f with the numbers behind the leader's, up to the last one given out, in the order of births: the
// children of a process that is gone when f asks come later in the window.
func (b *birth) window(l lookout, f visit, last, pidMax int) bool {
	switch {
	case last >= b.leader && last-b.leader <= maxProbes:
		probe(f, b.leader+1, last, b.serial)
	case last < b.leader && b.leader < pidMax && pidMax-b.leader+last <= maxProbes: // the sequence has wrapped around
		probe(f, b.leader+1, pidMax, b.serial)
		probe(f, 1, last, 0)
	default:
		_, whole, _ := list(l, f, b.leader) // not in the order of births
		return whole
	}
	return true
}

// probe calls f with the numbers from first to last, but for those of leaders of runs. before is the serial of the
// number before the first, 0 if unknown.
func probe(f visit, first, last int, before serial) {
	for pid := first; pid <= last; pid++ {
		if before != 0 {
			before++
		}
		if !before.leads() {
			f(pid, birthWindow)
		}
	}
}

// probeAll calls f with all numbers, in the order in which the kernel gives them out after the given one: what was born
// since comes first. It reports false if it does not know how many there are, and then goes through as many as a window
// may have. It also reports false if l, which may be nil, was late before the end; then it calls f only with the
// leader's group, see [roll.each], among as many numbers as that.
func probeAll(l lookout, f visit, after, pidMax int) bool {
	whole, rest := true, maxProbes
	last, lap := pidMax, after
	if pidMax <= 0 {
		last, lap = after+maxProbes/2, min(after, maxProbes/2) // the sequence may have come around
	}
	for _, part := range [...][2]int{{after + 1, last}, {1, lap}} {
		for pid := part[0]; pid <= part[1]; pid++ {
			whole = whole && (pid%1024 != 0 || l == nil || !l.late())
			if !whole {
				if rest--; rest < 0 {
					return false
				}
				if !l.grouped(pid) {
					continue
				}
			}
			f(pid, anywhere)
		}
	}
	return whole && pidMax > 0
}

// listTime is how long a late look waits for a list all the same: its proof may need a second one.
const listTime = 50 * time.Millisecond

// everyPID calls f with every process in /proc; after is the leader's number. If hidepid hides some, PID 1 among them,
// it probes all numbers instead, unless they are too many; and without /proc in any case, see [probeAll]. It reports
// false if those are not all processes, or l had no list in time.
func everyPID(l lookout, f visit, after, pidMax int) (whole bool, at reading) {
	began := time.Now()
	until := began.Add(lookTime)
	if l != nil {
		if until = l.patience(); time.Until(until) < listTime {
			until = began.Add(listTime)
		}
	}
	all, waited := censusFor(l).Take(until)
	if l != nil {
		l.waited(waited)
	}
	if all == nil {
		return false, at
	}
	defer all.Release()
	if l != nil {
		l.begin()
	}
	r := &all.Of
	if errors.Is(r.err, ErrForeign) { // to the thread that made the list, which need not have the mounts of this one
		r = new(roll)
		r.begin()
	}
	pids, err := r.pids, r.err
	absent := errors.Is(err, fs.ErrNotExist) || err == nil && len(pids) == 0 // not mounted, or something else is
	partial := err != nil || len(pids) == 0 || pids[0] != 1
	if absent || partial && pidMax > 0 && pidMax <= maxProbes {
		return probeAll(l, f, after, pidMax), r.at
	}
	return r.each(l, f, after) && err == nil, r.at
}
