package pipe

import (
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// LargeSize is what Grow makes of a pipe. Larger ones are slower again: what they hold is not in the
// processor's cache any more when it is read.
const LargeSize = 256 << 10

// maxLarge bounds how many pipes of this process are large at the same time. All pipes of a user share
// 64 MiB by default, and one who has used them up gets pipes of two pages from then on (pipe(7)), in
// programs that have nothing to do with us as well. This many are a sixteenth of it.
const maxLarge = 16

// largePipes is how many are.
var largePipes atomic.Int32

// Grow enlarges the pipe to LargeSize, and reports whether it did. Where the system refuses, or enough
// pipes of this process are large, the pipe stays as it was. Whoever reads or writes the End may call it.
func (e *End) Grow() bool {
	if !e.open || e.large {
		return false
	}
	e.large = largePipes.Add(1) <= maxLarge && sys.GrowPipe(e.fd, LargeSize) == nil
	if !e.large {
		largePipes.Add(-1)
	}
	return e.large
}

// leaveLarge gives the place of a large pipe back.
func (e *End) leaveLarge() {
	if e.large {
		e.large = false
		largePipes.Add(-1)
	}
}
