package safeexec

import (
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

type diagnosticOption struct {
	signal syscall.Signal
	wait   time.Duration
}

func (o diagnosticOption) apply(c *config) { c.diagnosticSet, c.diagnostic = true, o }

// WithDiagnosticSignal has a tree that is ended by force say first what it was doing: sig goes to all
// of it, followed by SIGCONT, and it has d to write what its handlers write before the signal that
// asks it to end. What comes is read as all other output is. SIGQUIT makes Go and Java programs print
// the stacks of all threads; Python's faulthandler.register does so for a signal of choice.
//
// It is sent to the whole tree because the program that is stuck is often a child of a shell. A
// program without a handler for sig dies of it, and so does a Go program after it has printed its
// stacks. All of d is waited, unless the tree is gone before: nobody can tell when a dump is complete.
//
// It is sent when a bound was hit, by the timeout, cancellation, silence or [Process.Stop], after
// the [Report] and before [WithTermSignal]; not when output exceeded its limit, nor to what a
// command that exited by itself has left behind, unless that was waited for, [BackgroundWait]. sig
// must be one that can be handled, so neither SIGKILL nor SIGSTOP; d must be positive. Run can take
// longer by d.
func WithDiagnosticSignal(sig syscall.Signal, d time.Duration) Option {
	return diagnosticOption{sig, d}
}

func (c *config) checkDiagnostic() error {
	if !c.diagnosticSet {
		return nil
	}
	switch sig := c.diagnostic.signal; {
	case sig <= 0 || sig > engine.MaxSignal:
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "is no signal"}
	case sig == syscall.SIGKILL || sig == proctree.SIGSTOP:
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "can not be handled by any program"}
	case c.diagnostic.wait <= 0:
		return &ConfigError{Name: "WithDiagnosticSignal", Reason: "needs a positive duration"}
	}
	return nil
}

// sendDiagnostic has the tree say what it was doing. The leader, which is reaped later, pins the numbers.
func (r *run) sendDiagnostic() {
	if !r.cfg.diagnosticSet || !r.stuck() || r.forced() || r.result.Cause == CauseLimits {
		return // a command without its limits has just begun
	}
	until := time.Now().Add(r.cfg.diagnostic.wait)
	r.SignalTree(r.cfg.diagnostic.signal, until)
	r.AwaitEmpty(until, r.cfg.diagnostic.signal)
	r.result.Times.Diagnostic = r.lap()
}
