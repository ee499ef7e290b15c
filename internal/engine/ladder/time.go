package ladder

import (
	"syscall"
	"time"
)

// Past is a deadline for looking without waiting.
var Past = time.Unix(1, 0)

// Earlier returns the earlier of two times.
func Earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// Later returns the later of two times.
func Later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Sooner returns the earlier of two times, of which zero ones do not count.
func Sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// blindStep is how long a step waits when it cannot be told what is ready.
const blindStep = time.Millisecond

// Tokens of the poller. Those below TokenExit are descriptors of the child, those from TokenMember
// on are members of the tree.
const (
	TokenCgroup = -1
	TokenExit   = 3
	TokenMember = 4
)

// MaxSignal is the highest number that signal(7) gives to any signal.
const MaxSignal = 64

// SignalBit is a signal's place in a set of signals, as in sigset_t.
func SignalBit(sig syscall.Signal) uint64 {
	if sig < 1 || sig > MaxSignal {
		return 0
	}
	return 1 << uint(sig-1)
}
