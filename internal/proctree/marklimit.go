package proctree

import (
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// limitTrack is the track of the limit mark. Limits are inherited by fork, exec, setsid, env -i and
// set-user-ID. Its holes: what the leader started before it was marked, pam_limits(8), which resets
// limits, and programs that set this limit, as real-time audio clients do. It comes first also because it
// tells whether any process has the number.
//
// A nested run, one within the tree, puts its number beside that of the outermost one, so that the mark does not
// find a run that is neither. And a process can set its limit to any number, or to that of any other process:
// prlimit(1). So the mark is weighed against the others, see [settle].
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
	c.limitRead = true
	outer, inner, marked := runsOf(soft)
	switch {
	case !marked:
		return unknown
	case m.tracks&TrackLimit != 0 && m.bears(outer, inner):
		c.byLimit = m.id
	case soft == m.ownSoft && c.tree.root == nil:
		return unknown // what this process passes on is its own
	default:
		c.byLimit, _ = runNamed(outer, inner)
	}
	c.inner = inner
	if c.byLimit != m.id || liveCount() > 1 {
		return unknown
	}
	if soft != m.limit && c.older() {
		return foreign // two programs have drawn the same number
	}
	return ours // there is no other run of this process that it could be of
}

// adopt gives a member that lacks it the limit mark, so that its children have it. One with the mark of a run within
// the tree keeps that run's number, and gets the outermost one beside it. The PID is known to have meant the member
// throughout if the member lives after it.
func (t *tracker) adopt(m *Member) {
	mark := t.mark
	if mark.tracks&TrackLimit == 0 {
		return
	}
	soft, hard, err := sys.RTTimeLimit(m.PID)
	limit := mark.limit
	if outer, inner, marked := runsOf(soft); marked && soft != mark.ownSoft {
		_, live := runNamed(outer, inner)
		switch {
		case mark.bears(outer, inner):
			return
		case t.root != nil:
			t.strays = true
			return
		case !live: // or it was copied from a run that has nothing to do with it
			limit = limitOf(mark.outer(), inner)
		}
	}
	if err == nil && hard >= limit {
		soft, err = sys.SetRTTimeLimit(m.PID, limit, hard) // of the process that has the number now
	}
	switch {
	case err != nil || hard < limit:
		t.strays = true
	case t.dead(m):
		// A process that has the number and the mark got the mark here. It may be that none did.
		if now, hard, err := sys.RTTimeLimit(m.PID); err == nil && now == limit {
			_, _ = sys.SetRTTimeLimit(m.PID, soft, hard)
		}
	}
}
