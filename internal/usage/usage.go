// Package usage adds up what the tree of a run has used.
//
// Without a cgroup there are two lower bounds: what the reaped processes have used, and what one look saw of all that
// were there. They may overlap, since the parent of a process that was seen may wait for it, and be reaped later. So
// they are not added, and the larger one counts.
package usage

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Source says where a figure is from.
type Source int

// The sources.
const (
	Unknown Source = iota
	Seen           // at least so much
	Exact          // by the cgroup
)

// A Total is what a tree has used, as far as is known.
type Total struct {
	sys.Usage
	CPU, Memory, IO Source
	Processes       int // at least; 0 is unknown
}

// A Meter adds up what one tree uses. The zero Meter knows nothing.
type Meter struct {
	reaped    sys.Usage
	leader    bool // was reaped
	seen      sys.Usage
	looked    bool
	leaf      sys.Usage
	cpu, peak bool // leaf has them
	processes int
	stands    time.Time // until when SoFar does not look again
}

// pause is how much longer than to look at a tree it takes until SoFar does it again.
const pause = 16

// SoFar returns the sum while the tree lives, l being its cgroup, or nil. Whoever asks again and again gets what the
// last look has found, so that looks take no more than a small part of the time.
func (m *Meter) SoFar(t *proctree.Tree, l *cgroup.Leaf) Total {
	if began := time.Now(); !began.Before(m.stands) {
		t.Live()
		m.Look(t)
		if l != nil {
			m.Cgroup(l)
		}
		now := time.Now()
		m.stands = now.Add(pause * now.Sub(began))
	}
	return m.Total()
}

// Look sees what those have used that the last look at the tree has found.
func (m *Meter) Look(t *proctree.Tree) {
	m.processes = t.Born()
	u, some := t.Used()
	if !some {
		return
	}
	u.Peak = max(u.Peak, m.seen.Peak)
	if m.looked && u.CPU() < m.seen.CPU() {
		u.User, u.System = m.seen.User, m.seen.System
	}
	m.seen, m.looked = u, true
}

// Reaped adds what the kernel has said of those that were reaped; state is nil for a leader that was not.
func (m *Meter) Reaped(t *proctree.Tree, state *os.ProcessState) {
	m.processes = t.Born()
	m.reaped = t.Reaped()
	if state == nil {
		return
	}
	u, ok := sys.UsageOf(state)
	if !ok {
		return
	}
	if !ofItsOwn(u.Peak) {
		u.Peak = 0
	}
	m.reaped.Add(u)
	m.leader = true
}

// Cgroup takes what the cgroup says, before it is removed.
func (m *Meter) Cgroup(l *cgroup.Leaf) {
	m.leaf.User, m.leaf.System, m.cpu = l.CPU()
	m.leaf.Peak, m.peak = l.MemoryPeak()
}

// coarse is more than two counts of the same time may differ by.
func coarse(d time.Duration) time.Duration { return d/8 + 20*time.Millisecond }

// Total returns the sum.
func (m *Meter) Total() Total {
	t := Total{Processes: m.processes}
	atLeast := m.reaped
	if m.seen.CPU() > atLeast.CPU() {
		atLeast.User, atLeast.System = m.seen.User, m.seen.System
	}
	hasLeft := m.cpu && atLeast.CPU() > m.leaf.CPU()+coarse(m.leaf.CPU()) // its cgroup
	switch {
	case m.cpu && !hasLeft:
		t.User, t.System, t.CPU = m.leaf.User, m.leaf.System, Exact
	case m.cpu || m.leader || m.looked:
		t.User, t.System, t.CPU = atLeast.User, atLeast.System, Seen
	}
	if t.Peak, t.Memory = m.leaf.Peak, Exact; !m.peak || hasLeft {
		t.Peak, t.Memory = max(m.reaped.Peak, m.seen.Peak, m.leaf.Peak), Seen
		if t.Peak == 0 {
			t.Memory = Unknown
		}
	}
	if m.leader && proctree.Enumerates { // others count in other units
		t.Read, t.Written, t.IO = m.reaped.Read, m.reaped.Written, Seen
	}
	return t
}

// ours is the most that this process was seen to have in memory.
var ours atomic.Int64

// ofItsOwn reports whether the peak of a child of ours is known to be one of its own, or its children's. Between its
// fork and its exec it shares our memory (CLONE_VM), and the kernel counts that as its own: ru_maxrss of a command is
// never less than our own peak at its start. Ours only grows, so that it is looked at once and then only when there is
// more than that.
func ofItsOwn(peak int64) bool {
	if peak <= beyond(ours.Load()) {
		return false
	}
	now := proctree.Peak()
	if now == 0 {
		return false
	}
	ours.Store(now)
	return peak > beyond(now)
}

// beyond is what a peak of ours can be taken for: the kernel counts pages by CPU, and adds them up when it likes.
func beyond(peak int64) int64 { return peak + peak/8 + 1<<20 }

// PeakOf returns the most that a child of ours, or a child that it has waited for, had in memory, in bytes; 0 if that
// is not known, because it is no more than what we have.
func PeakOf(state *os.ProcessState) int64 {
	u, ok := sys.UsageOf(state)
	if !ok || !ofItsOwn(u.Peak) {
		return 0
	}
	return u.Peak
}
