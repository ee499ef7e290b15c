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
// window. That makes a look at the tree cost what was born since, not what lives on the machine.
//
// The window is sound while fewer than a lap of PIDs was handed out since the start. Otherwise, or
// where the last PID can not be had, every process is a candidate.
type birth struct {
	leader  int
	started time.Time
	lap     lap // as sampled at the start or a little earlier
}

func newBirth(leader int, started time.Time) birth {
	return birth{leader: leader, started: started, lap: sampleLap(started)}
}

// maxProbes is the largest window that is probed number by number, at 0.2 µs each; beyond it
// listing /proc is cheaper.
const maxProbes = 1 << 15

// candidates calls f with each PID that a descendant may have, and with others.
func (b *birth) candidates(f func(pid int)) {
	last, ok := lastPID()
	if !ok || !b.sound() {
		everyPID(f, b.lap.pidMax)
		return
	}
	if last >= b.leader {
		probe(f, b.leader+1, last, b.lap.pidMax)
		return
	}
	// The sequence has wrapped around once. It goes on at 300 (RESERVED_PIDS in the kernel), in a
	// young PID namespace lower.
	if b.lap.pidMax == 0 || b.lap.pidMax-b.leader+last > maxProbes {
		everyPID(f, b.lap.pidMax)
		return
	}
	probe(f, b.leader+1, b.lap.pidMax, b.lap.pidMax)
	probe(f, 1, last, b.lap.pidMax)
}

func probe(f func(pid int), from, to, pidMax int) {
	if to-from > maxProbes {
		everyPID(f, pidMax)
		return
	}
	for pid := from; pid <= to; pid++ {
		f(pid)
	}
}

// everyPID lists /proc. Where that fails, or where hidepid may have left some out, the numbers are
// probed as long as there are few enough of them.
func everyPID(f func(pid int), pidMax int) {
	if pidMax > 0 && pidMax <= maxProbes {
		for pid := 2; pid <= pidMax; pid++ {
			f(pid)
		}
		return
	}
	pids, err := procfs.PIDs()
	if err != nil {
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

// A lap is a sample of how many processes and threads the machine has ever forked.
type lap struct {
	taken  time.Time
	forks  uint64
	pidMax int // 0 if unknown
}

// fastestFork is less than what one CPU takes for any clone, so that elapsed time alone can rule
// out a lap.
const fastestFork = 2 * time.Microsecond

// sound reports whether less than a lap has passed since the leader was born. A quarter of a lap is
// kept as a margin, for what the sequence skips: numbers still in use.
func (b *birth) sound() bool {
	if b.lap.pidMax == 0 {
		return false
	}
	room := uint64(b.lap.pidMax - b.lap.pidMax/4)
	if elapsed := time.Since(b.started); uint64(elapsed/fastestFork)*uint64(runtime.NumCPU()) < room {
		return true
	}
	now := takeLap()
	return now.pidMax == b.lap.pidMax && now.forks >= b.lap.forks && now.forks-b.lap.forks < room
}

// sampled is the sample that starts share: reading /proc/stat costs more than all else of a start.
var sampled struct {
	sync.Mutex
	lap
}

// sampleAge is how old a shared sample may be. An older one is still right, but counts forks from
// before the start against the window.
const sampleAge = time.Second

// sampleLap returns a sample from before started, or from now.
func sampleLap(started time.Time) lap {
	sampled.Lock()
	defer sampled.Unlock()
	if sampled.taken.IsZero() || started.Sub(sampled.taken) > sampleAge {
		sampled.lap = takeLap()
	}
	return sampled.lap
}

func takeLap() lap {
	l := lap{taken: time.Now()}
	st, err := procfs.ReadKernelStat()
	if err != nil {
		return l
	}
	l.forks, l.pidMax = st.Forks, readPIDMax()
	return l
}

// readPIDMax returns /proc/sys/kernel/pid_max, the number after the highest PID; 0 if unknown.
func readPIDMax() int {
	text, err := os.ReadFile("/proc/sys/kernel/pid_max")
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil || n <= 0 {
		return 0
	}
	return n
}
