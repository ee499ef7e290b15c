package pipe

import "sync/atomic"

// LargeSize is what Grow makes of a pipe. Larger ones are slower again: what they hold is not in the
// processor's cache any more when it is read.
const LargeSize = 256 << 10

// maxLarge is how many of our open pipes are large at the same time. All pipes of a user share 64 MiB by
// default; once that is used up, the user's programs, unrelated ones too, get pipes of two pages (pipe(7)).
// This many are a sixteenth of it. A pipe that is closed here, while a process still has its other end, no
// longer counts.
const maxLarge = 16

// largePipes is how many are.
var largePipes atomic.Int32

// Grow enlarges the pipe to LargeSize, and reports whether it did. Where the system refuses, or enough
// pipes of this process are large, the pipe stays as it was. The reader or writer of the End may call it.
func (e *End) Grow() bool {
	if !e.open || e.small != 0 || e.master {
		return false
	}
	if largePipes.Add(1) <= maxLarge {
		if before, err := e.do(callGrow, nil, 0); err == nil {
			e.small = before
			return true
		}
	}
	largePipes.Add(-1)
	return false
}

// shrink undoes Grow, for a pipe that will carry little from now on. One that is too full stays large.
func (e *End) shrink() {
	if e.small == 0 {
		return
	}
	if _, err := e.do(callShrink, nil, e.small); err == nil {
		e.leaveLarge()
	}
}

// leaveLarge gives the place of a large pipe back.
func (e *End) leaveLarge() {
	if e.small != 0 {
		e.small = 0
		largePipes.Add(-1)
	}
}
