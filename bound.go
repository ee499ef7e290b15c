package safeexec

import (
	"math"
	"os/exec"
	"time"

	"github.com/seed841d8200/safeexec/internal/terminal"
)

// Bound returns the sum of all bounds of a run with these options: [Run] returns by then, plus what the
// machine takes to schedule it. It counts from the call on.
//
// The sum is the timeout, [ReportBound] unless [WithoutReport] is given, the time of
// [WithDiagnosticSignal], linger, grace period, kill timeout and drain timeout, a tenth of a second to
// name the holders of a pipe, 50 ms for the context to agree that its deadline has passed, a tenth of
// a second to remove a cgroup, [WithContainment], a second for the function of [WithRedact], a second to
// give a terminal back, [WithTerminal], and 1.25 seconds for looks at the tree, each of which may take a quarter
// although its bound has passed.
//
// The error is that of Run for options that can not be used, and [ErrNoTimeout] without [WithTimeout].
func Bound(opts ...Option) (time.Duration, error) {
	c := configure(opts)
	if !c.timeoutSet {
		return 0, ErrNoTimeout
	}
	if err := c.check(new(exec.Cmd)); err != nil {
		return 0, err
	}
	return sum(c.timeout, c.ending()), nil
}

// StopBound returns how long a run with these options takes at most to return once it is to end: by its timeout,
// cancellation, [WithIdleTimeout] or [Process.Stop]. It is what [Bound] adds to the timeout. Of options that Run
// refuses it says nothing of use.
func StopBound(opts ...Option) time.Duration {
	c := configure(opts)
	return c.ending()
}

// looksBound is what looks at the tree may take that are begun when their bound has passed: at the end of the
// linger, before and after each of two signals.
const looksBound = 1250 * time.Millisecond

// ending is how long a run may go on after its deadline. All that can take time then is in it, and it
// is made nowhere else.
func (c *config) ending() time.Duration {
	d := sum(c.linger, c.grace, c.kill, c.drain, holderBound, timerSlack, looksBound)
	if !c.noReport {
		d = sum(d, c.report) // one: holders are only explained where there is no report yet
	}
	if c.diagnosticSet {
		d = sum(d, c.diagnostic.wait)
	}
	if c.redact != nil {
		d = sum(d, redactBound)
	}
	if c.terminal {
		d = sum(d, terminal.Bound)
	}
	if c.containment != nil && c.containment.rung != ContainmentBest {
		d = sum(d, removeBound)
	}
	return d
}

// sum adds durations that are not negative. Of what is too long it makes the longest.
func sum(durations ...time.Duration) (total time.Duration) {
	for _, d := range durations {
		if total > math.MaxInt64-d {
			return math.MaxInt64
		}
		total += d
	}
	return total
}
