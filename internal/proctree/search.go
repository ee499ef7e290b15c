package proctree

import (
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A search looks for members.
type search struct {
	cell
	born     birth
	until    time.Time    // of Until
	young    bool         // the leader has just started
	missed   bool         // MarkBorn could not mark a process: its children may not be found
	complete bool         // see Complete
	hidden   map[int]bool // see Hidden; a set, as a look may come to a process twice
}

// Until sets when the looks from now on should end. A look that begins late, or shortly before, still has lookTime: one
// that is cut short proves nothing. Until also keeps the last PID being read, so that the birth window of a young tree
// stays sound while the tree is ended.
func (t *search) Until(until time.Time) {
	t.until = until
	readings.keepUp()
}

// lookTime is how long each look may take, whatever Until says. A look at thousands of processes takes ten
// milliseconds, and several times that on a busy machine.
const lookTime = 250 * time.Millisecond

// A term is how long the present look may take. Hundreds of looks at once wait for each other's lists of all processes,
// and a look without a list would prove nothing. So the wait for the first list comes on top, up to as much again.
type term struct {
	lookEnds time.Time
	own      time.Time // lookTime after the beginning; zero once the look has waited for a list
}

func (l *term) allot(until time.Time) {
	l.own = time.Now().Add(lookTime)
	l.lookEnds = until
	l.extend(l.own)
}

func (l *term) extend(end time.Time) {
	if end.After(l.lookEnds) {
		l.lookEnds = end
	}
}

func (l *term) patience() time.Time {
	most := *l
	most.waited(lookTime)
	return most.lookEnds
}

func (l *term) waited(d time.Duration) {
	if !l.own.IsZero() {
		l.extend(l.own.Add(min(d, lookTime)))
		l.own = time.Time{}
	}
}

// left returns what is left of the look's time.
func (l *term) left() time.Duration {
	if l.lookEnds.IsZero() {
		return lookTime
	}
	return time.Until(l.lookEnds)
}

func (l *term) late() bool { return !l.lookEnds.IsZero() && !time.Now().Before(l.lookEnds) }

// Live looks for live members of the tree other than the leader, known ones included. It reports false if it could not
// look at every process: then finding none proves nothing. The slice is valid until the next look.
//
// In a cgroup it looks for no other members while some are there; [Tree.All] does. If /proc shows another PID
// namespace, the cgroup is all that it goes by.
func (t *search) Live() ([]*Member, bool) {
	t.beginLook()
	if t.inhabited() {
		return t.list(), true
	}
	return t.look()
}

// All is Live that also looks for members that left the cgroup while others are in it.
func (t *search) All() ([]*Member, bool) {
	t.beginLook()
	return t.look()
}

// beginLook forgets what the last look came to.
func (t *search) beginLook() {
	t.spare, t.unheard, t.blurred, t.complete = t.spare[:0], false, false, false
	clear(t.hidden)
	t.allot(t.until)
}

func (t *search) look() ([]*Member, bool) {
	if !Enumerates || !sys.Enabled(sys.Sweep) {
		return nil, true
	}
	if len(t.members) == 0 && t.born.childless() {
		return nil, true
	}
	if procfs.Foreign() { // its numbers are those of other processes, none of them ours
		sure, _ := t.contained()
		return t.list(), t.leaf != nil && sure
	}
	now := t.corpses.look()
	t.forgetDead()
	t.askLeader()
	// For a cgroup the kernel's word counts, and the look is for members that left it.
	sure, vacant := t.contained()
	if vacant {
		t.born.glance(t, now)
	} else if seen := t.born.candidates(t, now); t.leaf == nil {
		sure = seen
	}
	if !t.young {
		t.descend()
	}
	return t.list(), sure && !t.blurred && !t.missed && !t.unheard
}

// maxPasses bounds looks that are repeated because the last one found a new member.
const maxPasses = 64

// gather looks until a look finds no new member, or over, asked after each, reports true.
func (t *search) gather(over func() bool) {
	for range maxPasses {
		found := len(t.members)
		if t.Live(); over() || len(t.members) <= found {
			return
		}
	}
}

// Blind reports whether no look can prove the tree empty, so that waiting for one is in vain: there is no /proc, and
// the highest PID is not known either.
func (t *search) Blind() bool { return Enumerates && pidMax.get() == 0 && procfs.Absent() }

// Hidden returns how many processes the last look knew to exist and could tell nothing of.
func (t *search) Hidden() int { return len(t.hidden) }

// Complete reports whether the last look went through every process that existed when it began. That is less than
// Live's proof: others may have been born since.
func (t *search) Complete() bool { return t.complete && !t.blurred }

func (t *search) toldAll() { t.complete = true }

// consider admits pid if it belongs to the tree.
func (t *search) consider(pid int, from origin) {
	if pid == t.leader && t.root == nil || t.members[pid] != nil || t.corpses.has(pid) {
		return
	}
	switch t.judge(pid, from) {
	case ours:
		t.add(pid, from)
	case unknown:
		if t.asked.hidden() {
			if t.hidden == nil {
				t.hidden = map[int]bool{}
			}
			t.hidden[pid] = true
		}
	case foreign:
	}
}

// considerNew is consider for a number that may have been given out since the look began.
func (t *search) considerNew(pid int, from origin) {
	delete(t.corpses.pids, pid)
	t.consider(pid, from)
}

// descend considers the children of members: the parent track is not asked for every candidate. It finds processes that
// shed several marks, and is not worth its time in a large tree.
func (t *search) descend() {
	if len(t.members) > maxPidfds {
		return
	}
	t.descending = true
	defer func() { t.descending = false }()
	if t.root == nil && !t.leaderReaped && !t.LeaderExited() { // an exited process has no children
		t.descendFrom(t.leader)
	}
	for pid := range t.members {
		t.descendFrom(pid)
	}
}

func (t *search) descendFrom(pid int) {
	children, _ := procfs.Children(pid)
	for _, child := range children {
		t.consider(child, birthWindow)
	}
}
