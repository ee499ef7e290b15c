package proctree

import "github.com/seed841d8200/safeexec/internal/sys"

// sliceTrack is the track of the slice mark (Linux 6.12). The leader is born with it, so that not
// even its first instruction comes before it; it is inherited by fork, exec, setsid, env -i,
// set-user-ID, nice, chrt and su. Its holes are programs that give themselves a slice of their own or
// real-time scheduling.
//
// The number has 20 bits, since it must stay a harmless slice. So it counts for less than the limit:
// only of a process that is not older than the leader and does not bear another run's mark. Of
// those that are left, strangers that carry a number of some other program that uses this package,
// one in a million has ours.
type sliceTrack struct{}

func (sliceTrack) judge(c *candidate) verdict {
	m := c.tree.mark
	if m.tracks&TrackSlice == 0 {
		return unknown
	}
	s, err := sys.ScheduleOf(c.pid)
	if err != nil || s.Slice() != m.slice || c.bearsOther() || c.older() {
		return unknown
	}
	return ours
}
