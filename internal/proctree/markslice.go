package proctree

import "github.com/seed841d8200/safeexec/internal/sys"

// sliceTrack is the track of the slice mark (Linux 6.12). The leader is born with it, so that not
// even its first instruction comes before it; it is inherited by fork, exec, setsid, env -i,
// set-user-ID, nice, chrt and su. Its holes are programs that give themselves a slice of their own or
// real-time scheduling.
//
// The number has 20 bits, since it must stay a harmless slice. So it counts only for a process that is not older
// than the leader, and whose limit mark does not name another run with the same slice. Of the strangers that are
// left, without a limit mark and with a number of another program that uses this package, one in a million has ours.
type sliceTrack struct{}

func (sliceTrack) judge(c *candidate) verdict {
	t, m := c.tree, c.tree.mark
	if m.tracks&TrackSlice == 0 && c.byLimit == 0 || t.root != nil && !t.recalled && c.byLimit != m.id {
		return unknown // there is nothing to weigh it against
	}
	s, err := sys.ScheduleOf(c.pid)
	if err != nil {
		return unknown
	}
	c.bySlice = m.runOfSlice(s.Slice(), c.byLimit, c.inner)
	switch {
	case t.root != nil && (c.bySlice == m.run || c.bySlice == m.outer()):
		c.bySlice = 0 // the run that the root belongs to: true of others in there, too
	case c.bySlice == 0 || c.bySlice != m.id:
	case c.byLimit == m.id, c.byLimit == 0 && !c.older():
		return ours
	}
	return unknown
}

// runOfSlice returns the run that a slice names, 0 for none. A run within a run adds its number to the slice that it
// was born with. So the limit mark of the same process, which names the run byLimit and has inner as its inner
// number, helps to read it.
func (m *Mark) runOfSlice(slice uint64, byLimit, inner uint32) uint32 {
	if slice == 0 {
		return 0
	}
	liveRuns.RLock()
	defer liveRuns.RUnlock()
	within := slice - uint64(inner&sliceMask)
	if byLimit != 0 {
		if within == liveRuns.slice {
			return byLimit // the slice bears it out
		}
		if id := m.bornWithSlice(within); id != 0 {
			return id
		}
	}
	return m.bornWithSlice(slice)
}

// bornWithSlice returns the live run whose leader was born with the slice, 0 for none. It needs the lock of liveRuns.
func (m *Mark) bornWithSlice(slice uint64) uint32 {
	if slice == m.slice {
		return m.id
	}
	if run := liveRuns.ids[uint32(slice-liveRuns.slice)&sliceMask]; run.slice == slice {
		return run.id
	}
	return 0
}
