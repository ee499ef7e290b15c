package safeexec

import (
	"context"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
)

type reportOption time.Duration

func (o reportOption) apply(c *config) { c.Report = time.Duration(o) }

// WithReportBound gives a report as long as a test needs on a busy machine.
func WithReportBound(d time.Duration) Option { return reportOption(d) }

// PipesAreSeen says that what StdoutPipe and its kin opened is where it is looked for.
var PipesAreSeen = engine.PipesAreSeen()

// Notify is NotifyContext with signals of the test's own.
var Notify = notify

// Forced reports whether a run with ctx has no grace period any more.
func Forced(ctx context.Context) bool {
	force, ok := ctx.Value(forceKey{}).(context.Context)
	return ok && force.Err() != nil
}

// Followed reports whether a loop of Lines is at it.
func Followed(p *Process) (followed bool) {
	p.ask(func() { followed = p.run.life.Streams.Each[1].Fanout != nil })
	return followed
}

// TellRetries tells the observers of n retries.
func TellRetries(p *Process, n int) {
	p.ask(func() {
		for range n {
			p.run.observed.retried(nil)
		}
	})
}

// OutputWaits reports whether output waits in the kernel for a Writer that does not return, and whether the run, which
// is over, has decided how much of it is still to be read.
func OutputWaits(p *Process) (waits, decided bool) {
	p.ask(func() {
		s := &p.run.life.Streams.Each[1]
		waits, decided = (s.Blocked || s.DrawingBlocked()) && s.End.Readable(), s.Final
	})
	return waits, decided
}
