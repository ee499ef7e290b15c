package pipe

import "sync/atomic"

// LargeSize is what Grow makes of a pipe. Larger ones are slower again: what they hold is not in the
// processor's cache any more when it is read.
const LargeSize = 256 << 10

// maxLarge is how many pipes that we have open are large at the same time. All pipes of a user share 64 MiB
// by default, and one who has used them up gets pipes of two pages from then on (pipe(7)), in programs that
// have nothing to do with us as well. This many are a sixteenth of it. A pipe that is closed here and has its
// other end with a process that lives on is not counted any more.
const maxLarge = 16

// largePipes is how many are.
var largePipes atomic.Int32

// Grow enlarges the pipe to LargeSize, and reports whether it did. Where the system refuses, or enough
// pipes of this process are large, the pipe stays as it was. Whoever reads or writes the End may call it.
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

// shrink undoes Grow, for a pipe of whom nothing much is expected any more. One that is too full stays large.
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
