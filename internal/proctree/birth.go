package proctree

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// A birth is where a tree began in the sequence of PIDs. The kernel hands PIDs out in order, so
// every descendant's lies behind the leader's and not behind the last one given out: the birth
// window. That makes a look at a young tree cost what was born since, not what lives on the machine.
//
// The window is sound while less than a lap of PIDs was handed out since the start. That is proved by
// time, or by serials, which are made of shorter times. Counting forks does not prove it: a clone that
// fails late uses a PID up and is not counted in /proc/stat. Otherwise, or where the last PID cannot be
// had, every process is a candidate.
type birth struct {
	leader  int
	started time.Time
	serial  serial // the leader's; 0 if unknown
}

// maxProbes is the largest window that is probed number by number, at 0.2 µs each; beyond it
// listing /proc is cheaper.
const maxProbes = 1 << 15

// maxLateProbes is the same for a tree that is not young any more. Most machines are listed in less time
// than a larger window is probed.
const maxLateProbes = 1 << 11

// reservedPIDs is where the sequence goes on after a lap (RESERVED_PIDS in the kernel).
const reservedPIDs = 300

// fastestClone is less than what one CPU takes to use up a PID: 11 µs for a clone that fails late.
const fastestClone = 5 * time.Microsecond

// fastestPID is less than what all CPUs together take to use up a PID. The kernel gives out and takes back each
// under one lock of the machine (pidmap_lock), which goes from CPU to CPU with the lines of memory that it guards.
const fastestPID = 200 * time.Nanosecond

// manyCPUs stands in for an unknown number: the machine may have more than we may use.
const manyCPUs = 1024

// An origin says where a PID was come across.
type origin int

const (
	anywhere    origin = iota
	birthWindow        // whoever has the number got it since the leader did, or had it all the time
)

// A visit is called with a PID.
type visit func(pid int, from origin)

// A lookout is who looks for somebody among the candidates.
type lookout interface {
	// begin is called between the making of a list and its first PID: what was given out before the list is told by
	// consider, and what was given out after that by considerNew as well.
	begin()
	// consider is told a PID that was given out before the look began, or is told of for lack of a better way.
	consider(pid int, from origin)
	// considerNew is told one that may have been given out since.
	considerNew(pid int, from origin)
	// excludes reports whether that bearer is not looked for.
	excludes(bearer) bool
	// toldAll is called when all have been told who were there when the look began.
	toldAll()
	// found reports whether there is somebody, who makes another look necessary anyway.
	found() bool
	// settles reports whether a look that finds nobody may be the last. It is not while the leader lives, which
	// can start a process right after it: then nothing is repeated for a proof.
	settles() bool
	// patience returns until when it waits for a list of all processes.
	patience() time.Time
	// waited is called with how long it waited for those of others.
	waited(time.Duration)
	// late reports whether the look has taken as long as it may.
	late() bool
	// grouped reports whether a signal to the leader's group reaches the process. It is to be known even if the look is
	// late.
	grouped(pid int) bool
}

// candidates tells l each PID that a descendant may have, and others. now is what was given out last when the
// look began, with leader 0 if that is not known. It reports false where it could not find out who there is.
//
// A chain that forks and exits can outrun it: the successor's number lies beyond the last. So what was
// given out meanwhile is looked at as well, until nothing was, or until somebody was found.
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
		spent, now = at.effort, at.last // the list takes long: whether that was less than a lap is told by the effort
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
		case !near: // this process was stopped, or held up
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

// near reports whether what was given out from the leader's number up to now is probed rather than everybody listed.
func (b *birth) near(now birth) bool {
	return now.leader != 0 && (b.young() || b.follows(now.serial, maxLateProbes))
}

// glance is one pass of candidates, where it is proved otherwise that nobody is left but those who escaped the proof.
func (b *birth) glance(l lookout, now birth) {
	if b.near(now) {
		b.window(l, l.consider, now.leader, pidMax.get())
	} else {
		everyPID(l, l.consider, b.leader, pidMax.get())
	}
}

// list calls f with every process. It reports whether it could (whole), and whether those are proved to be all (exact):
// if no task was created meanwhile. The kernel counts "processes" in /proc/stat at the moment a process enters /proc. So
// a process that lives at the end lived all the time and f was called with it, and the same goes for one whose clone is
// under way. That holds however long the list took and whatever numbers failed clones have used up.
//
// Without that proof, if nothing was found, list goes through /proc twice: a child whose fork is under way has its
// number and is not in /proc yet, and its parent may have exited by the time it is asked. The second list has it. The
// reading is of before the first.
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

// A reading is what the kernel said before a list of all processes was begun. All looks that share the list share it:
// /proc/stat takes longer to read than most of what they do.
type reading struct {
	effort effort
	forks  uint64 // tasks that were ever created; 0 if unknown, as in gVisor
	last   birth  // what was given out last, after that; with leader 0 if unknown
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

// An effort is what all processors had spent in the kernel at some time. To use up a PID takes time in there,
// wherever it happens, and to compute, to sleep and to be held up does not. So it proves that less than a lap was
// used up, where the clock does not: of a look that was preempted, or on a machine of many idle processors. The
// kernel counts by sampling, so that a program that spends its time between the samples can hide some.
type effort struct {
	system uint64 // hundredths of a second
	known  bool
}

// samplingError is by how much a difference of two efforts may be too small, in hundredths of a second.
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

// chaseForks is the chase where the last PID cannot be had: everybody is looked at until the machine
// has forked nothing meanwhile. Threads and other PID namespaces are counted as well, so that on a busy
// machine this may not come about; then the looks, of which all found the same, are believed.
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

// maxForkChase bounds the looks of chaseForks by time and not by number: one takes some 100 µs, or many
// milliseconds where thousands of processes live, and whoever asked has a bound to keep.
const maxForkChase = 100 * time.Millisecond

// maxChases is how often PIDs that were given out meanwhile are looked at. Between two times there is
// hardly room for a fork. That everybody is looked at instead takes longer, and is necessary some times where
// thousands of commands end together.
const (
	maxChases = 64
	maxLists  = 16
)

// childless reports whether no PID was given out since the leader's. Once the leader has exited that
// proves the tree empty: nobody is left who could fork.
func (b *birth) childless() bool {
	last, n, ok := pids.last()
	return ok && last == b.leader && (b.young() || b.follows(n, 0))
}

// place finds the leader's serial, right after the start, and reports what childless does.
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

// follows reports whether the serial n is known to come after the leader's, by no more than most, and less
// than a lap.
func (b *birth) follows(n serial, most int) bool {
	lap := lapOf(pidMax.get())
	return b.serial != 0 && n >= b.serial && n-b.serial <= min(serial(most), lap-lap/4)
}

// young reports whether the birth window is sound.
func (b *birth) young() bool { return sound(time.Since(b.started), pidMax.get(), cpus.get()) }

// sound reports whether less than a lap can have passed. A time that runs backwards, as it does from inside a
// bubble of testing/synctest to the outside, or stands still, as it does in there, proves nothing.
func sound(elapsed time.Duration, pidMax, cpus int) bool {
	return elapsed > 0 && elapsed < lapTime(pidMax, cpus)
}

// lapTime returns how long a lap takes at least. A quarter of it is kept as a margin, for numbers that are
// skipped because they are in use.
func lapTime(pidMax, cpus int) time.Duration {
	if cpus <= 0 {
		cpus = manyCPUs
	}
	lap := max(pidMax-reservedPIDs, 0)
	lap -= lap / 4
	return max(time.Duration(lap)*fastestClone/time.Duration(cpus), time.Duration(lap)*fastestPID)
}

// window calls f with the numbers behind the leader's, up to the last one given out. That is the order of births: a
// process that is gone when it is asked has its children, if any, later in the window.
func (b *birth) window(l lookout, f visit, last, pidMax int) bool {
	switch {
	case last >= b.leader && last-b.leader <= maxProbes:
		probe(f, b.leader+1, last, b.serial)
	case last < b.leader && b.leader < pidMax && pidMax-b.leader+last <= maxProbes: // the sequence has wrapped around
		probe(f, b.leader+1, pidMax, b.serial)
		probe(f, 1, last, 0)
	default:
		_, whole, _ := list(l, f, b.leader) // which is not made in the order of births
		return whole
	}
	return true
}

// probe calls f with the numbers from first to last, but not with those of leaders; before is the serial of
// the one before the first, 0 if unknown.
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

// probeAll calls f with all numbers, in the order in which they are given out after the given one: what was born since
// comes first. It reports false where l, which may be nil, was late before all were told, or where it is not known how
// many there are: then it tells the next ones, as many as it would in a window. Once l is late it tells only those in
// the leader's group, see [roll.each], among as many numbers as that.
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

// everyPID lists /proc. Where hidepid leaves some out (PID 1 is then missing as well), the numbers are probed instead
// as long as there are few enough of them, and where there is no /proc they are in any case, see [probeAll]; after is
// the leader's. It reports false where that does not tell of everybody, or l had no list in time.
func everyPID(l lookout, f visit, after, pidMax int) (whole bool, at reading) {
	until := time.Now().Add(lookTime)
	if l != nil {
		until = l.patience()
	}
	all, waited := censusFor(l).Take(until)
	if l != nil {
		l.waited(waited)
	}
	if all == nil {
		if l != nil {
			probeAll(l, f, after, pidMax) // late, so that only the group's are told
		}
		return false, at
	}
	defer all.Release()
	if l != nil {
		l.begin()
	}
	r := &all.Of
	pids, err := r.pids, r.err
	absent := errors.Is(err, fs.ErrNotExist) || err == nil && len(pids) == 0 // not mounted, or something else is
	partial := err != nil || len(pids) == 0 || pids[0] != 1
	if absent || partial && pidMax > 0 && pidMax <= maxProbes {
		return probeAll(l, f, after, pidMax), r.at
	}
	return r.each(l, f, after) && err == nil, r.at
}

// A fact is a number that the kernel tells, and that is asked for once. Not to be told, for want of a
// descriptor perhaps, is not for all.
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

// ask asks again, and reports whether the answer is another. Without an answer, as after chroot(2), the last one
// stands.
func (f *fact) ask() bool {
	n := int64(f.read())
	return n != 0 && f.value.Swap(n) != n
}

// pidMax is /proc/sys/kernel/pid_max, the number after the highest PID; 0 if unknown. It can be changed, and
// systems do so when they have just started: see [sequence.last].
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
