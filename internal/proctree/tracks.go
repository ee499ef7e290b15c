package proctree

import (
	"slices"
	"strings"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A track is a way to tell the processes of a tree from all others. Each alone has a hole, which its
// doc names. It may be asked about any number, used or not, a process's or a thread's, and must not
// be fooled by reuse: what it goes by is either pinned, or names this run alone.
type track interface {
	judge(c *candidate) verdict
}

// A verdict is what a track says of a process.
type verdict int

const (
	unknown verdict = iota // the track cannot tell
	ours
	foreign // or there is no process: no other track needs to be asked
)

// Tracks is a set of tracks.
type Tracks uint

// The tracks, by what they go by.
const (
	TrackSession     Tracks = 1 << iota // the session that the leader leads
	TrackGroup                          // the process group that it leads, where the session is ours
	TrackLimit                          // the soft limit RLIMIT_RTTIME
	TrackSlice                          // the time slice
	TrackParent                         // the parent
	TrackEnvironment                    // the variable SAFEEXEC_RUN
	TrackCgroup                         // the cgroup that the leader was born in
	TrackAdoption                       // that orphans become our children
)

var trackNames = [...]string{
	"session", "group", "limit", "slice", "parent", "environment", "cgroup", "adoption",
}

// String lists the tracks, separated by commas.
func (t Tracks) String() string {
	var s []string
	for i, name := range trackNames {
		if t&(1<<i) != 0 {
			s = append(s, name)
		}
	}
	return strings.Join(s, ",")
}

// A candidate is a number that may be that of a process of the tree, and what was read of it so far.
type candidate struct {
	pid  int
	from origin
	tree *tracker
	// linked says that it was named as the child of a member.
	linked bool

	// The runs that its marks name, see [settle]; 0 where a mark names none, or was not read.
	byLimit, bySlice, byEnviron uint32
	inner                       uint32 // the inner number of the limit mark
	unasked                     bool   // for its environment, which may say otherwise than its limit

	limitRead bool
	stat      procfs.Stat // if statRead and statErr is nil
	statRead  bool
	statErr   error
}

func (c *candidate) readStat() (*procfs.Stat, error) {
	if !c.statRead {
		c.stat, c.statErr = procfs.ReadStatNoComm(c.pid)
		c.statRead = true
	}
	return &c.stat, c.statErr
}

// older reports whether the process is known to be older than the leader, or is the kernel's own, so that it cannot
// descend from it. Start times are exact to a tick of 10 ms; in the birth window no process is older.
func (c *candidate) older() bool {
	if c.from == birthWindow {
		return false
	}
	st, err := c.readStat()
	return err == nil && (st.Flags&kernelThread != 0 || st.StartTime < c.tree.leaderStart())
}

// session is the track of the session's number. A process that has it descends from the leader, as long
// as something pins the number: the leader until it is reaped, or a member in that session. Its hole is
// setsid(2).
type session struct{}

func (session) judge(c *candidate) verdict {
	if !c.tree.sessionPinned {
		return unknown
	}
	sid, err := sys.Session(c.pid)
	switch {
	case err == nil && sid == c.tree.leader && c.tree.pinsNumber():
		return ours
	case sys.Gone(err), err == nil && c.tree.isAnothers(sid):
		return foreign
	}
	return unknown
}

// isAnothers reports whether a session is that of another run of this process, whose leader pins it.
func (t *tracker) isAnothers(sid int) bool {
	run := runLedBy(sid)
	if run == 0 || run == t.mark.id || t.root != nil {
		return false
	}
	_, err := sys.ExitedUnreaped(sid)
	return err == nil
}

// group is the track of the process group's number, for a leader that stays in our session. Its hole
// is setpgid(2), which every shell with job control calls.
type group struct{}

func (group) judge(c *candidate) verdict {
	if !c.tree.sessionPinned {
		return unknown
	}
	pgid, err := sys.Group(c.pid)
	switch {
	case err == nil && pgid == c.tree.leader && c.tree.pinsNumber():
		return ours
	case sys.Gone(err):
		return foreign
	}
	if sid, err := sys.Session(c.pid); err == nil && c.tree.isAnothers(sid) {
		return foreign
	}
	return unknown
}

// parent is the track of the parent's number, which means a process of the tree while that one is
// seen to live afterwards. Its hole is a parent that has exited. Reading it costs some microseconds,
// see [candidate.thorough] and [Tree.descend].
type parent struct{}

func (parent) judge(c *candidate) verdict {
	if !c.thorough() {
		return unknown
	}
	st, err := c.readStat()
	if err != nil {
		return unknown
	}
	if c.older() {
		return foreign
	}
	return c.childOfTree(st.PPID)
}

func (c *candidate) childOfTree(ppid int) verdict {
	t := c.tree
	if ppid == t.leader && t.root == nil && !t.leaderReaped {
		return ours // an exited leader has no children any more
	}
	if m := t.members[ppid]; m != nil && !t.dead(m) {
		return ours
	}
	return unknown
}

// thorough reports whether what is dear may be read of the candidate. Where both the limit and the
// slice tell processes apart, it is not worth it for all that were born since, or live, on a machine;
// nor where all of a root's tree bear the limit mark.
func (c *candidate) thorough() bool {
	const both = TrackLimit | TrackSlice
	t := c.tree
	if t.root != nil {
		return c.linked || c.disputed() || t.seeking || t.strays
	}
	return c.linked || c.disputed() || t.mark.tracks&both != both
}

// disputed reports whether there is a limit mark that the slice does not bear out.
func (c *candidate) disputed() bool { return c.byLimit != 0 && c.byLimit != c.bySlice }

// hidden reports whether the process is there and nothing of it could be seen that tells.
func (c *candidate) hidden() bool {
	if c.limitRead || c.tree.mark.tracks&TrackSlice != 0 {
		return false
	}
	_, err := c.readStat()
	if err == nil {
		return false
	}
	_, err = sys.Session(c.pid)
	return !sys.Gone(err)
}

// ParseTracks reads what String wrote. It returns the first name that it does not know.
func ParseTracks(text string) (tracks Tracks, unknown string) {
	for name := range strings.SplitSeq(text, ",") {
		i := slices.Index(trackNames[:], name)
		switch {
		case i >= 0:
			tracks |= 1 << i
		case text != "":
			return 0, name
		}
	}
	return tracks, ""
}
