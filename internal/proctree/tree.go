// Package proctree finds the processes of a command's tree, signals them, and proves them gone.
//
// A track is one sign that a process belongs to the tree. Each may say that it does not know, and together they decide.
// They are asked about the PIDs that were given out since the leader's, the birth window, or about all PIDs where that
// window is not known.
//
// It is one package because the tracks check each other: apart, each would show the others what it keeps.
package proctree

import (
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
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
// It is made of layers. Each has its own state, and sees that of the layers below it:
//
//	Tree     begins, marks, gathers, kills and reaps the tree
//	search   looks for members (search.go)
//	cell     lists the cgroup (contained.go)
//	tracker  asks the tracks whether a process is of the tree (tracker.go)
//	roster   keeps the members that are known (member.go)
//	head     knows the leader, and signals its group (leader.go)
type Tree struct {
	search
	grows bool // one Kill was not enough
}

// The tracks of a leader of ours. Cheap ones that tell most come first; their docs say what they cost.
var (
	leadsSession = []track{limitTrack{}, session{}, sliceTrack{}, parent{}, environTrack{}}
	leadsGroup   = []track{limitTrack{}, group{}, sliceTrack{}, parent{}, environTrack{}}
)

// noMark is the mark of trees that have none.
var noMark Mark

// Init makes t the tree of a leader that was just started. The leader pins its number, which is also that of
// its group and of the session that it leads, until it is reaped.
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

// MarkBorn gives the limit mark to the processes that the leader started before it had the mark itself, unless the time
// slice marks them. Call it right after the start: later children inherit the mark. If no process was born yet, that
// costs one reading of the last PID.
func (t *Tree) MarkBorn() {
	if childless := t.born.place(); childless || t.mark.tracks&TrackLimit == 0 {
		return
	}
	// If every start listed /proc, many at once would take time that grows with the square of their number. The slice
	// tells unmarked processes too.
	if t.mark.tracks&TrackSlice != 0 && !t.born.young() {
		return
	}
	t.young = true
	t.gather(func() bool {
		t.missed = t.missed || t.blurred
		return false
	})
	t.Close()
	t.used.found = 0 // what still lives is found again
	t.young = false
}
