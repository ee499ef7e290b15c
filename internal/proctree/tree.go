// Package proctree finds the processes of a command's tree, signals them, and proves them gone.
//
// A tree is found by tracks, each a way to tell from a PID alone whether the process belongs to the
// tree. The PIDs worth asking about are those of the birth window.
package proctree

import (
	"os"
	"sync/atomic"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Process names one process for good: a PID alone is reused.
type Process struct {
	PID   int
	Start uint64 // clock ticks since boot, field 22 of /proc/PID/stat; 0 if unreadable
	Name  string // the kernel's name of it, 15 bytes at most; empty if unreadable
}

// An Origin is what a tree begins with.
type Origin struct {
	Process *os.Process // the leader, our child, not reaped
	Started time.Time   // not after its start
	Mark    *Mark       // that it was started with; nil for none
	// InSession says that the leader leads a process group in our session, not a session of its own.
	InSession bool
	// Leaf is the cgroup that the leader was born in, which lists what descends from it; nil for none.
	Leaf    *cgroup.Leaf
	Leaving func(*Member) // called before a member's pidfd is closed; may be nil
}

// A Tree is a leader, which this process started and has not reaped, and all its descendants; or a root
// that another process may have started, see [Tree.InitBelow]. It belongs to one goroutine.
//
// It is made of layers, each with the state that its methods own, which see those below and no others:
//
//	Tree     begins, marks, gathers, kills and reaps a tree
//	search   looks for members: the candidates, the time of a look, what it came to
//	cell     lists what is in the cgroup
//	tracker  tells by the tracks whether a process is of the tree
//	roster   keeps the members that are known, the dead among them, and what they have used
//	head     knows the leader: whether its number is pinned, and signals by that
type Tree struct {
	search
	grows bool // a Kill was not enough
}

// A head is the leader, or the root, of a tree.
type head struct {
	leader       int         // its PID
	process      *os.Process // the leader; nil for a root
	root         *Root       // nil for a leader of ours
	start        uint64      // of the leader; 0 until it is asked for, or unreadable
	apart        bool        // there are no signals to the leader's group
	leaderReaped bool        // when askLeader asked
}

// A roster has the members that are known.
type roster struct {
	head
	members  map[int]*Member // alive when last looked at
	spare    []*Member       // what Live returned last
	leaving  func(*Member)
	pidfds   int  // how many pidfds may be held while Kill is under way; 0 at other times
	killing  bool // SIGKILL was sent: most of the members are dead by now
	corpses  corpses
	adopts   bool // orphans become our children
	siblings bool // some of the tree are children of ours
	used     used
}

// A tracker tells by the tracks whether a process is of the tree.
type tracker struct {
	roster
	mark          *Mark
	tracks        []track
	number        Tracks     // the track that goes by the leader's number
	asked         *candidate // the one that is considered, or was last
	seeking       bool       // by Gather: a process that is found for the first time bears no mark of ours
	recalled      bool       // by Recall: the environment may be all that there is to go by
	strays        bool       // some member does not bear the limit mark
	sessionPinned bool       // when askLeader asked
	descending    bool
	blurred       bool // a process is there that cannot be told from others later

	reading time.Duration // that may still be spent on environments in this look
	readers *atomic.Int32 // of environments, under way; nil until there is one
	silent  map[int]bool  // whose environment was not had in time; of a recalled tree
}

// A cell has the cgroup that the leader was born in.
type cell struct {
	tracker
	leaf *cgroup.Leaf // nil without a cgroup
}

// A search looks for members.
type search struct {
	cell
	term
	born     birth
	until    time.Time    // of Until
	young    bool         // the leader has just started
	missed   bool         // MarkBorn could not mark a process, so that what that has started may not be found
	complete bool         // the last look went through all processes, see [search.Complete]
	hidden   map[int]bool // each once, as a look may list everything again
}

// The tracks of a leader of ours. What is cheap and tells most comes first, see the costs there.
var (
	leadsSession = []track{limitTrack{}, session{}, sliceTrack{}, parent{}, environTrack{}}
	leadsGroup   = []track{limitTrack{}, group{}, sliceTrack{}, parent{}, environTrack{}}
)

// noMark is the mark of trees that have none.
var noMark Mark

// Init makes t the tree of a leader that was just started. Its number, which is also its group's
// and, if it leads one, its session's, stays pinned until it is reaped.
func (t *Tree) Init(o Origin) {
	*t = Tree{}
	t.leader, t.process = o.Process.Pid, o.Process
	t.leaving, t.adopts = o.Leaving, sys.Adopts()
	t.mark, t.leaf = o.Mark, o.Leaf
	t.born = birth{leader: t.leader, started: o.Started}
	if t.mark == nil {
		t.mark = &noMark
	}
	t.tracks, t.number = leadsSession, TrackSession
	if o.InSession {
		t.tracks, t.number = leadsGroup, TrackGroup
	}
}

// Tracks returns the tracks that are in force.
func (t *cell) Tracks() Tracks {
	if !Enumerates {
		return 0
	}
	tracks := t.mark.tracks | t.number | TrackParent
	if t.leaf != nil {
		tracks |= TrackCgroup
	}
	if t.adopts {
		tracks |= TrackAdoption
	}
	return tracks
}

// MarkBorn gives the limit mark to those whom the leader has started before it had the mark itself.
// It comes right after the start; from then on whoever is born has it. Where nobody was born that is
// one look at the last PID.
func (t *Tree) MarkBorn() {
	if childless := t.born.place(); childless || t.mark.tracks&TrackLimit == 0 {
		return
	}
	// To list /proc at every start would make many at once take the square of their number. The slice tells
	// those who are not marked all the same.
	if t.mark.tracks&TrackSlice != 0 && !t.born.young() {
		return
	}
	t.young = true
	for found, passes := -1, 0; len(t.members) > found && passes < maxPasses; passes++ {
		found = len(t.members)
		t.Live()
		t.missed = t.missed || t.blurred
	}
	t.Close()
	t.used.found = 0 // who is still there is found again
	t.young = false
}

// maxPasses bounds looks that are repeated because the last one found somebody new.
const maxPasses = 64

// Until sets when the looks from now on should be over. One that is begun late, or shortly before, has lookTime all
// the same: a look that is cut short proves nothing. Readings go on, so that the window of a young tree stays while it
// is ended.
func (t *search) Until(until time.Time) {
	t.until = until
	readings.keepUp()
}

// lookTime is what each look may take whatever the time is. One at thousands of processes takes ten milliseconds, and
// on a busy machine several times that.
const lookTime = 250 * time.Millisecond

// A term is how long the present look may take. Hundreds of looks at once wait for each other's lists of all processes,
// and one that went through none would prove nothing: so that wait comes on top, up to as much again.
type term struct {
	lookEnds time.Time
	own      time.Time // when the time ends that it has in any case; zero once it has had a list
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

// late reports whether the look has to end.
func (l *term) late() bool { return !l.lookEnds.IsZero() && !time.Now().Before(l.lookEnds) }

// Live looks for members of the tree that are alive, without the leader. Members that were found
// earlier are looked at again. It reports false where it could not look at everybody, so that finding
// nobody proves nothing. The slice is valid until the next call.
//
// Where /proc shows another PID namespace, members are found by the cgroup alone.
//
// In a cgroup it looks for nobody else as long as somebody is there: see [Tree.All].
func (t *search) Live() ([]*Member, bool) {
	t.beginLook()
	if t.inhabited() {
		return t.list(), true
	}
	return t.look()
}

// All is Live that also looks for those who have left the cgroup while others are in it.
func (t *search) All() ([]*Member, bool) {
	t.beginLook()
	return t.look()
}

// beginLook forgets what the last look came to.
func (t *search) beginLook() {
	t.spare, t.reading, t.blurred, t.complete = t.spare[:0], environBudget, false, false
	clear(t.hidden)
	t.allot(t.until)
	if t.recalled {
		t.reading = time.Until(t.lookEnds)
	}
}

func (t *search) look() ([]*Member, bool) {
	if !Enumerates || !sys.Enabled(sys.Sweep) {
		return nil, true
	}
	if len(t.members) == 0 && t.born.childless() {
		return nil, true
	}
	if procfs.Foreign() { // its numbers are of other processes, which are none of ours
		sure, _ := t.contained()
		return t.list(), t.leaf != nil && sure
	}
	now := t.corpses.look()
	t.forgetDead()
	t.askLeader()
	// Of a cgroup the kernel's word counts, and the look is for those who have left it.
	sure, vacant := t.contained()
	if vacant {
		t.born.glance(t, now)
	} else if seen := t.born.candidates(t, now); t.leaf == nil {
		sure = seen
	}
	if !t.young {
		t.descend()
	}
	return t.list(), sure && !t.blurred && !t.missed
}

func (t *roster) forgetDead() {
	for pid, m := range t.members {
		if t.killing && m.FD < 0 && t.exited(pid) || t.dead(m) {
			t.forget(pid)
		}
	}
}

func (t *roster) list() []*Member {
	t.spare = t.spare[:0]
	for _, m := range t.members {
		t.spare = append(t.spare, m)
	}
	return t.spare
}

// Blind reports whether no look can prove the tree empty, so that it makes no sense to wait for one: there is no /proc,
// and how many PIDs there are is not known either.
func (t *search) Blind() bool { return Enumerates && pidMax.get() == 0 && procfs.Absent() }

// Hidden returns how many processes the last look knew to be there and could tell nothing of.
func (t *search) Hidden() int { return len(t.hidden) }

// Stuck reports whether a goroutine of ours is left behind in reading the memory of a process.
func (t *tracker) Stuck() bool { return t.readers != nil && t.readers.Load() > 0 }

// askLeader asks whether the leader's number still means what it did.
func (t *tracker) askLeader() {
	t.leaderReaped = !t.Pinned()
	t.sessionPinned = !t.leaderReaped || t.pinsNumber()
}

// pinsNumber reports whether the number of the leader's session or group means that one still: the
// leader pins it until it is reaped, and a member that is in there.
func (t *tracker) pinsNumber() bool {
	if t.Pinned() {
		return true
	}
	ask := sys.Session
	if t.number == TrackGroup {
		ask = sys.Group
	}
	for _, m := range t.members {
		if n, err := ask(m.PID); err == nil && n == t.leader && !t.dead(m) {
			return true
		}
	}
	return false
}

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

// begin strikes off who may have a corpse's number by now.
func (t *roster) begin() { t.corpses.look() }

func (t *search) toldAll() { t.complete = true }

// Complete reports whether the last look was put to everybody who was there when it began. To find them all is less
// than the proof that nobody was born meanwhile.
func (t *search) Complete() bool { return t.complete && !t.blurred }

func (t *roster) found() bool { return len(t.members) > 0 }

func (t *head) grouped(pid int) bool {
	pgid, err := sys.Group(pid)
	return err == nil && pgid == t.leader && !t.apart
}

func (t *head) settles() bool { return t.root != nil || t.LeaderExited() } // a root that lives is found

// excludes says of a bearer what the tracks do.
func (t *tracker) excludes(b bearer) bool {
	const both = TrackLimit | TrackSlice
	if b.stranger { // to whom no other track than these two would be put
		return t.root == nil && t.number == TrackSession && t.mark.tracks&both == both
	}
	return b.run != 0 && t.root == nil && t.mark.tracks&TrackLimit != 0 && b.run != t.mark.id && b.session != t.leader
}

// judge asks the tracks about pid.
func (t *tracker) judge(pid int, from origin) verdict {
	if t.asked == nil {
		t.asked = new(candidate)
	}
	*t.asked = candidate{pid: pid, from: from, tree: t, linked: t.descending}
	for _, track := range t.tracks {
		if v := track.judge(t.asked); v != unknown {
			return v
		}
	}
	switch run := settle(t.asked.byLimit, t.asked.bySlice, t.asked.byEnviron); {
	case run == 0:
		return unknown
	case run == t.mark.id && !t.asked.older(): // or two programs have drawn the same number
		return ours
	}
	return foreign
}

// descend admits the children of known members, whose parents nobody was asked for. It is for those
// that shed several marks, and not worth the time in a large tree.
func (t *search) descend() {
	if len(t.members) > maxPidfds {
		return
	}
	t.descending = true
	defer func() { t.descending = false }()
	if t.root == nil && !t.leaderReaped && !t.LeaderExited() { // who has exited has no children
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

// leaderStart returns the leader's start time in clock ticks, 0 if it cannot be told any more.
func (t *head) leaderStart() uint64 {
	if t.start == 0 && !t.leaderReaped {
		if st, err := procfs.ReadStatNoComm(t.leader); err == nil && t.Pinned() {
			t.start = st.StartTime
		}
	}
	return t.start
}

// Close releases the descriptors. It is called before the leader is reaped.
func (t *tracker) Close() {
	t.corpses, t.asked = corpses{}, nil
	for pid := range t.members {
		t.forget(pid)
	}
}
