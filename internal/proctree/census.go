package proctree

import (
	"slices"

	"github.com/seed841d8200/safeexec/internal/census"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// everybody lists all processes.
var everybody = census.New((*roll).all)

// A roll is a list of processes, shared by the looks that ask for one at the same time.
type roll struct {
	pids []int // in ascending order
	// bearers is parallel to pids, or empty.
	bearers []bearer
	traits  []traits // likewise
	err     error
	at      reading
}

func (r *roll) begin() {
	*r = roll{pids: r.pids[:0], bearers: r.bearers[:0], traits: r.traits[:0]}
	if isForeign() {
		r.err = ErrForeign
		return
	}
	r.at = readKernel()
	r.pids, r.err = procfs.AppendPIDs(r.pids)
}

// isForeign is set by tests.
var isForeign = procfs.Foreign

// all lists all processes. If one look alone asks, the marks are not read here: it reads those of its candidates
// anyway.
func (r *roll) all(others int) {
	if r.begin(); others == 0 {
		return
	}
	pulse := newPulse()
	for _, pid := range r.pids {
		pulse.beat()
		r.bearers = append(r.bearers, bearerOf(pid))
	}
}

// A bearer is what the marks of a process tell every look: which run of this process its limit mark names, where its
// slice or session confirms that, or that they name none.
type bearer struct {
	run      uint32 // 0 for others
	session  int    // with a run
	stranger bool   // no mark at all, and in a session that no run leads
}

func bearerOf(pid int) bearer {
	soft, _, err := sys.RTTimeLimit(pid)
	if err != nil {
		return bearer{}
	}
	session, err := sys.Session(pid)
	if err != nil {
		return bearer{}
	}
	led := runLedBy(session)
	s, err := sys.ScheduleOf(pid)
	outer, inner, marked := runsOf(soft)
	if !marked {
		return bearer{stranger: led == 0 && err == nil && noMark.runOfSlice(s.Slice(), 0, 0) == 0}
	}
	run, live := runNamed(outer, inner)
	if !live || led != run && noMark.runOfSlice(s.Slice(), run, inner) != run {
		return bearer{}
	}
	return bearer{run: run, session: session}
}

// each calls f with every process but those whose marks tell l, which may be nil, that they are not of its tree. If l
// is late before the end, each reports false, and calls f only with the rest of the leader's group, which is signaled
// by its number whether its members are known or not. It begins with the numbers after the given one, the leader's,
// where most of what the leader started is.
func (r *roll) each(l lookout, f visit, after int) (whole bool) {
	pulse, whole := newPulse(), true
	first, leader := slices.BinarySearch(r.pids, after)
	if leader {
		first++
	}
	for n := range r.pids {
		i := (first + n) % len(r.pids)
		whole = whole && (n%64 != 63 || l == nil || !l.late())
		if l != nil && r.excludes(l, i) || !whole && !l.grouped(r.pids[i]) {
			continue
		}
		pulse.beat() // after that, since each of thousands of looks passes over most of thousands of processes
		f(r.pids[i], anywhere)
	}
	return whole
}
