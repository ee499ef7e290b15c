package proctree

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A birth is where a tree began in the sequence of PIDs. The kernel hands PIDs out in order, so
// every descendant's lies behind the leader's and not behind the last one given out: the birth
// window. That makes a look at a young tree cost what was born since, not what lives on the machine.
//
// The window is sound while less than a lap of PIDs was handed out since the start. Only time proves
// that. Counting forks does not: a clone that fails late uses a PID up and is not counted in
// /proc/stat. Later, or where the last PID can not be had, every process is a candidate.
type birth struct {
	leader  int
	started time.Time
}

// maxProbes is the largest window that is probed number by number, at 0.2 µs each; beyond it
// listing /proc is cheaper.
const maxProbes = 1 << 15

// reservedPIDs is where the sequence goes on after a lap (RESERVED_PIDS in the kernel).
const reservedPIDs = 300

// fastestClone is less than what one CPU takes to use up a PID: 11 µs for a clone that fails late.
const fastestClone = 2 * time.Microsecond

// candidates calls f with each PID that a descendant may have, and with others.
func (b *birth) candidates(f func(pid int)) {
	last, ok := lastPID()
	if ok && sound(time.Since(b.started), pidMax(), cpus()) {
		b.window(f, last, pidMax())
		return
	}
	everyPID(f, pidMax())
}

// sound reports whether less than a lap can have passed. A quarter of a lap is kept as a margin, for
// numbers that are skipped because they are in use.
func sound(elapsed time.Duration, pidMax, cpus int) bool {
	lap := max(pidMax-reservedPIDs, 0)
	return uint64(elapsed/fastestClone)*uint64(cpus) < uint64(lap-lap/4)
}

// window calls f with the numbers behind the leader's, up to the last one given out.
func (b *birth) window(f func(pid int), last, pidMax int) {
	switch {
	case last >= b.leader && last-b.leader <= maxProbes:
		probe(f, b.leader+1, last)
	case last < b.leader && pidMax-b.leader+last <= maxProbes: // the sequence has wrapped around
		probe(f, b.leader+1, pidMax)
		probe(f, 1, last)
	default:
		everyPID(f, pidMax)
	}
}

func probe(f func(pid int), from, to int) {
	for pid := from; pid <= to; pid++ {
		f(pid)
	}
}

// everyPID lists /proc. Where that fails, or hidepid leaves some out (PID 1 is then missing as well),
// the numbers are probed as long as there are few enough of them.
func everyPID(f func(pid int), pidMax int) {
	pids, err := procfs.PIDs()
	if (err != nil || len(pids) == 0 || pids[0] != 1) && pidMax > 0 && pidMax <= maxProbes {
		probe(f, 1, pidMax)
		return
	}
	for _, pid := range pids {
		f(pid)
	}
}

// lastPID returns the PID that was given out last in our PID namespace.
func lastPID() (int, bool) {
	var buf [128]byte
	n, err := sys.ReadLoadavg(buf[:])
	if err != nil {
		return 0, false
	}
	avg, err := procfs.ParseLoadavg(buf[:n])
	return avg.LastPID, err == nil && avg.LastPID > 0
}

// pidMax is /proc/sys/kernel/pid_max, the number after the highest PID, as it was at first; 0 if
// unknown. Raising it later makes laps longer, which is harmless.
var pidMax = sync.OnceValue(func() int {
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return 0
	}
	return max(n, 0)
})

// cpus is how many CPUs the machine can have; runtime.NumCPU is how many we may use.
var cpus = sync.OnceValue(func() int {
	text, err := os.ReadFile("/sys/devices/system/cpu/possible") // "0-63"
	if err != nil {
		return runtime.NumCPU()
	}
	text = bytes.TrimSpace(text)
	n, err := strconv.Atoi(string(text[bytes.LastIndexByte(text, '-')+1:]))
	if err != nil {
		return runtime.NumCPU()
	}
	return max(n+1, runtime.NumCPU())
})
