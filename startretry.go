package safeexec

import "time"

type startRetryOption time.Duration

func (o startRetryOption) apply(c *config) { c.startRetry = time.Duration(o) }

// WithStartRetry sets for how long a start is tried again that fails for want of a process, EAGAIN, or because another
// process still has the program open for writing, ETXTBSY: both usually pass within milliseconds. The pauses grow from
// 1 to 128 ms, the timeout counts all the time, and Result.StartRetries says how often it was. Zero is one try. A
// command whose pipes os/exec has made is not tried again, since a start that fails closes them.
func WithStartRetry(d time.Duration) Option { return startRetryOption(d) }

// ETXTBSY comes about when another goroutine forks while this process writes a program (go.dev/issue/22315).
const (
	firstRetryDelay = time.Millisecond
	lastRetryDelay  = 128 * time.Millisecond
)
