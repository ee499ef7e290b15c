package proctree

import (
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A tracker asks the tracks whether a process is of the tree.
type tracker struct {
	roster
	term          // of the present look
	mark          *Mark
	tracks        []track
	number        Tracks     // the track that goes by the leader's number
	asked         *candidate // that is judged, or was last
	seeking       bool       // by Gather: a process that is found for the first time bears no mark of ours
	recalled      bool       // by Recall: the environment may be all that there is to go by
	strays        bool       // some member does not bear the limit mark
	sessionPinned bool       // when askLeader asked
	descending    bool       // from members to their children
	blurred       bool       // a process is there that could not be told from the next one with its number

	unheard bool          // another look may have an environment that this one did not
	readers *atomic.Int32 // of environments, under way; nil until there is one
	silent  map[int]silence
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
	if t.asked.unasked {
		return unknown
	}
	switch run := settle(t.asked.byLimit, t.asked.bySlice, t.asked.byEnviron); {
	case run == 0:
		return unknown
	case run == t.mark.id && !t.asked.older(): // or two programs have drawn the same number
		return ours
	}
	return foreign
}

// excludes reports whether the tracks would call the bearer foreign.
func (t *tracker) excludes(b bearer) bool {
	const both = TrackLimit | TrackSlice
	if b.stranger { // only these two tracks would be asked
		return t.root == nil && t.number == TrackSession && t.mark.tracks&both == both
	}
	return b.run != 0 && t.root == nil && t.mark.tracks&TrackLimit != 0 && b.run != t.mark.id && b.session != t.leader
}

// askLeader asks whether the leader's number still means the leader, and its session or group.
func (t *tracker) askLeader() {
	t.leaderReaped = !t.Pinned()
	t.sessionPinned = !t.leaderReaped || t.pinsNumber()
}

// pinsNumber reports whether the number still means the leader's session or group: the leader pins it until it is
// reaped, and so does a member that is in there.
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

// Stuck reports whether a goroutine of ours is left behind in reading the memory of a process.
func (t *tracker) Stuck() bool { return t.readers != nil && t.readers.Load() > 0 }

// Close releases the descriptors. It is called before the leader is reaped.
func (t *tracker) Close() {
	t.corpses, t.asked = corpses{}, nil
	for pid := range t.members {
		t.forget(pid)
	}
}
