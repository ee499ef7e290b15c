package proctree

import (
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// limitTrack is the track of the limit mark. Limits are inherited by fork, exec, setsid, env -i and
// set-user-ID. Its holes: what the leader started before it was marked, pam_limits(8), which resets
// limits, and programs that set this limit, as real-time audio clients do. It also comes first
// because it tells whether there is anybody of the number at all.
//
// A nested run, one within the tree, puts its number beside that of the outermost one. So a run that
// is neither the outermost nor the innermost is not found by it; whoever may belong to such a run is asked
// for its environment and its parent.
type limitTrack struct{}

func (limitTrack) judge(c *candidate) verdict {
	m := c.tree.mark
	soft, _, err := sys.RTTimeLimit(c.pid)
	switch {
	case sys.Gone(err):
		return foreign
	case sys.Denied(err) && m.tracks&TrackSlice == 0:
		soft, _, err = procfs.ReadLimit(c.pid, procfs.LimitRTTime) // another user's, and readable by all
	}
	if err != nil {
		return unknown
	}
	c.limit, c.limitRead = soft, true
	outer, inner, marked := runsOf(soft)
	switch {
	case !marked || m.tracks&TrackLimit == 0:
		return unknown
	case soft == m.limit:
		return ours // all 62 bits
	case m.bears(outer, inner):
		if c.older() {
			return foreign // two programs have drawn the same number
		}
		return ours
	case isLive(inner) && c.tree.root == nil:
		return foreign // it belongs to another run of ours, which ends it
	}
	c.nested = outer == m.outer()
	return unknown
}

// bearsOther reports whether the limit of the candidate is the mark of another run than ours, or
// can not be told. What this process passes on is its own.
func (c *candidate) bearsOther() bool {
	m := c.tree.mark
	_, _, marked := runsOf(c.limit)
	return c.limitRead && marked && c.limit != m.limit && c.limit != m.ownSoft
}

// adopt gives a member that lacks it the limit mark, so that its children have it. The number is
// known to have meant the member throughout if the member lives after it.
func (t *Tree) adopt(m *Member) {
	mark := t.mark
	if mark.tracks&TrackLimit == 0 {
		return
	}
	soft, hard, err := sys.RTTimeLimit(m.PID)
	if outer, inner, marked := runsOf(soft); marked && soft != mark.ownSoft {
		// It is ours, or that of a run within the tree, which needs it.
		t.strays = t.strays || !mark.bears(outer, inner)
		return
	}
	if err == nil && hard >= mark.limit {
		_, err = sys.SetRTTimeLimit(m.PID, mark.limit, hard)
	}
	switch {
	case err != nil || hard < mark.limit:
		t.strays = true
	case t.dead(m):
		_, _ = sys.SetRTTimeLimit(m.PID, soft, hard)
	}
}
