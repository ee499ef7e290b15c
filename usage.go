package safeexec

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/seed841d8200/safeexec/internal/usage"
)

// A UsageSource says where a figure of a [Usage] is from, and so what it is worth.
type UsageSource int

// The sources.
const (
	UsageUnknown UsageSource = iota // the figure is not known; it is 0
	UsageSeen                       // at least so much: what was reaped, or was seen before it was killed
	UsageExact                      // of the whole tree: the kernel's count for the run's cgroup
)

var usageSources = [...]string{"unknown", "seen", "exact"}

// String returns the source in words.
func (s UsageSource) String() string {
	if s < 0 || int(s) >= len(usageSources) {
		return fmt.Sprintf("UsageSource(%d)", int(s))
	}
	return usageSources[s]
}

// MarshalText returns the source in words.
func (s UsageSource) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *UsageSource) UnmarshalText(text []byte) error {
	return readName(s, "source", usageSources[:], text)
}

// A Usage is what the tree of a run has used. Each figure has its source: a 0 whose source is [UsageUnknown] is none.
//
// A run in a cgroup, see [WithContainment], has the processor time of all that ever was in there, whoever waited for
// it. Without one there is what the kernel says of the command when it is reaped, with the children that it has
// waited for, and they for theirs, wait4(2): for most commands that is all. The rest is seen as far as somebody looks
// at it: those that are told to end, or are left, are looked at right before, the oldest 256 of them, and with
// [SetSubreaper] orphans are reaped as well. What is lost is an orphan that ended by itself before that, and what
// [Process.Kill] ends without a grace period.
type Usage struct {
	// User and System are the processor time, in the mode of the program and in the kernel.
	User, System time.Duration
	CPU          UsageSource

	// PeakMemory is in bytes. Seen, it is the most that one process had in memory, VmHWM in proc_pid_status(5). Exact,
	// it is the most that all had together, with their files in the page cache: memory.peak, which
	// [WithMemoryMax] limits; it needs Linux 5.19 and the memory controller.
	//
	// Without that the peak of a small command is not known: it shares the memory of this process between fork and exec,
	// and ru_maxrss of getrusage(2) counts that as its own. A peak is told if it is by more than an eighth above our own,
	// or if it was seen in /proc.
	PeakMemory int64
	Memory     UsageSource

	// Processes is how many processes there were at least: the command and who was found by a look at the tree. The
	// kernel does not count them. 0 is unknown.
	Processes int

	// ReadBytes and WrittenBytes are what was fetched from storage, and what is to go there: a page counts when it
	// is first written to (ru_inblock and ru_oublock, proc_pid_io(5)). What comes from the page cache, a pipe, or a file
	// system in memory is not in it. Never exact: they are of what was reaped. A cgroup counts what has reached
	// the devices, twice where one device is on another.
	ReadBytes, WrittenBytes int64
	IO                      UsageSource
}

// CPUTime returns the processor time.
func (u Usage) CPUTime() time.Duration { return u.User + u.System }

// LogValue is what is known, as a group:
//
//	cpu           the processor time
//	cpu_source    seen or exact
//	peak_memory, memory_source
//	processes     if there were more than one
//	read_bytes, written_bytes    unless 0
func (u Usage) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 7)
	if u.CPU != UsageUnknown {
		attrs = append(attrs, slog.Duration("cpu", u.CPUTime()), slog.String("cpu_source", u.CPU.String()))
	}
	if u.Memory != UsageUnknown {
		attrs = append(attrs, slog.Int64("peak_memory", u.PeakMemory), slog.String("memory_source", u.Memory.String()))
	}
	for _, n := range []struct {
		name  string
		count int64
		least int64
	}{
		{"processes", int64(u.Processes), 2},
		{"read_bytes", u.ReadBytes, 1},
		{"written_bytes", u.WrittenBytes, 1},
	} {
		if n.count >= n.least {
			attrs = append(attrs, slog.Int64(n.name, n.count))
		}
	}
	return slog.GroupValue(attrs...)
}

func newUsage(t usage.Total) Usage {
	return Usage{
		User: t.User, System: t.System, CPU: UsageSource(t.CPU),
		PeakMemory: t.Peak, Memory: UsageSource(t.Memory),
		Processes: t.Processes,
		ReadBytes: t.Read, WrittenBytes: t.Written, IO: UsageSource(t.IO),
	}
}

// Usage returns what the tree has used so far: the kernel's count in a cgroup, else what those who live have used, and
// the children that they have waited for. What is read and written is known at the end, when it is that of the
// [Result]. It looks at the tree, as [Process.SignalTree] does, between two steps of the run.
func (p *Process) Usage() Usage {
	var u Usage
	if p.ask(func() { u = p.run.usageNow() }) {
		return u
	}
	<-p.done
	return p.run.result.Usage
}

func (r *run) usageNow() Usage {
	if r.actor != nil {
		return Usage{}
	}
	r.tree.Live()
	r.meter.Look(&r.tree)
	if r.leaf != nil {
		r.meter.Cgroup(r.leaf)
	}
	return newUsage(r.meter.Total())
}
