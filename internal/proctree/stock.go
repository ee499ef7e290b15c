package proctree

import (
	"strings"
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/census"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// traits are what the tracks of a recalled tree go by, of one process. They are read once for all trees that are ended
// at the same time: hundreds of trees, each of which asks all processes itself, take the square of their number.
type traits struct {
	known   bool // or each tree asks for itself
	limit   uint64
	session int
	slice   uint64
	parent  int
	runs    string // the value of the environment mark; empty if it has none
}

// stock lists all processes, with their traits.
var stock = census.New((*roll).takeStock)

// ofATree is a lookout for the members of a tree.
type ofATree interface{ tracked() *tracker }

func (t *tracker) tracked() *tracker { return t }

// censusFor returns the census that lists processes for l, which may be nil.
func censusFor(l lookout) *census.Census[roll] {
	if t, ok := l.(ofATree); ok && t.tracked().recalled && sharing() > 1 {
		return stock
	}
	return everybody
}

func (r *roll) takeStock(int) {
	r.begin()
	pulse := newPulse()
	for _, pid := range r.pids {
		pulse.beat()
		r.traits = append(r.traits, traitsOf(pid))
	}
}

func traitsOf(pid int) (p traits) {
	var err error
	if p.limit, _, err = sys.RTTimeLimit(pid); err != nil {
		return traits{known: sys.Gone(err)} // a process with the number was born since
	}
	if p.session, err = sys.Session(pid); err != nil {
		return traits{known: sys.Gone(err)}
	}
	st, err := procfs.ReadStatNoComm(pid)
	if err != nil {
		return traits{}
	}
	p.parent = st.PPID
	if s, err := sys.ScheduleOf(pid); err == nil {
		p.slice = s.Slice()
	}
	p.runs, p.known = stockRuns(pid)
	return p
}

// Reads of environments of the stock that are under way, and the processes that did not answer in time. The turn
// of the stock guards the map. A later process with the number of one of these is not read here either, but by
// each tree.
var (
	stockReaders atomic.Int32
	stockSilent  = map[int]bool{}
)

// stockRuns reports false for a process that does not answer at once: all wait for it here.
func stockRuns(pid int) (runs string, known bool) {
	if stockSilent[pid] || stockReaders.Load() >= maxStuck {
		return "", false
	}
	runs, known = readRuns(pid, environBound, &stockReaders)
	if !known {
		stockSilent[pid] = true
	}
	return runs, known
}

// excludes reports whether what was read of the i-th process tells l that it is none of its.
func (r *roll) excludes(l lookout, i int) bool {
	if t, ok := l.(ofATree); ok && len(r.traits) > 0 {
		return t.tracked().rulesOut(&r.traits[i])
	}
	return len(r.bearers) > 0 && l.excludes(r.bearers[i])
}

// rulesOut reports whether no track would say of the process that it is of the tree.
func (t *tracker) rulesOut(p *traits) bool {
	m := t.mark
	outer, inner, marked := runsOf(p.limit)
	within, inRuns := strings.CutPrefix(p.runs, m.env)
	switch {
	case !p.known,
		marked && m.bears(outer, inner),
		t.leader != 0 && p.session == t.leader,
		m.slice != 0 && (p.slice == m.slice || p.slice-uint64(inner&sliceMask) == m.slice),
		t.members[p.parent] != nil,
		m.env != "" && inRuns && (within == "" || within[0] == '/'):
		return false
	}
	return true
}
