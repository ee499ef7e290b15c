package safeexec

import (
	"fmt"
	"math"
	"os/exec"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
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
	return sum(c.Timeout, c.ending()), nil
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
	d := sum(c.Linger, c.Grace, c.Kill, c.Drain, engine.HolderBound, engine.TimerSlack, looksBound)
	if !c.NoReport {
		d = sum(d, c.Report) // one: holders are only explained where there is no report yet
	}
	if c.DiagnosticSet {
		d = sum(d, c.Diagnostic.Wait)
	}
	if c.redact != nil {
		d = sum(d, redactBound)
	}
	if c.Terminal {
		d = sum(d, engine.TerminalBound)
	}
	if c.Containment != nil && c.Containment.Rung != engine.ContainmentBest {
		d = sum(d, engine.RemoveBound)
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

// Settings are what options add up to, as data: for a log, a page of a service's configuration, or a test
// that a house rule holds. [Resolve] makes them; the zero value is that of no run.
type Settings struct {
	Timeout      time.Duration `json:"timeout"`      // 0: the deadline of the context alone
	GracePeriod  time.Duration `json:"grace_period"` // from SIGTERM to SIGKILL
	Linger       time.Duration `json:"linger"`
	KillTimeout  time.Duration `json:"kill_timeout"`
	DrainTimeout time.Duration `json:"drain_timeout"`
	IdleTimeout  time.Duration `json:"idle_timeout"` // 0: no limit
	// Ending is how long a run may go on after its timeout: the sum of all bounds that count from there.
	Ending time.Duration `json:"ending"`

	TermSignal  string      `json:"term_signal"`
	OutputLimit int64       `json:"output_limit"` // bytes a stream
	Overflow    Overflow    `json:"overflow"`
	Background  Background  `json:"background"`
	FDPolicy    FDPolicy    `json:"fd_policy"`
	FDProof     bool        `json:"fd_proof"`
	Containment Containment `json:"containment"`
	Report      bool        `json:"report"` // why the command was stuck, before it is ended by force
	Terminal    bool        `json:"terminal"`
}

// Resolve returns the settings that hold with these options. The error is that of [Run] for options that can
// not be used; that a timeout is missing is none, since a context can have one.
func Resolve(opts ...Option) (Settings, error) {
	c := configure(opts)
	if err := c.check(new(exec.Cmd)); err != nil {
		return Settings{}, err
	}
	return c.settings(), nil
}

// settings returns what the options have added up to.
func (c *config) settings() Settings {
	s := Settings{
		Timeout: c.Timeout, GracePeriod: c.Grace, Linger: c.Linger, KillTimeout: c.Kill, DrainTimeout: c.Drain,
		IdleTimeout: c.Idle, Ending: c.ending(), TermSignal: c.TermSignal.String(), OutputLimit: c.OutputLimit,
		Overflow: c.overflow, Background: Background(c.Background), FDPolicy: FDPolicy(c.FDPolicy), FDProof: c.Proof,
		Report: !c.NoReport, Terminal: c.Terminal,
	}
	if c.Containment != nil {
		s.Containment = Containment(c.Containment.Rung)
	}
	return s
}

// String returns the settings in one line, durations in words.
func (s Settings) String() string {
	var b strings.Builder
	timeout := "of the context"
	if s.Timeout > 0 {
		timeout = s.Timeout.String()
	}
	fmt.Fprintf(&b, "timeout %s, grace %v (%s), linger %v, kill %v, drain %v",
		timeout, s.GracePeriod, s.TermSignal, s.Linger, s.KillTimeout, s.DrainTimeout)
	if s.IdleTimeout > 0 {
		fmt.Fprintf(&b, ", idle %v", s.IdleTimeout)
	}
	fmt.Fprintf(&b, ", output limit %d bytes, ends within %v of the timeout", s.OutputLimit, s.Ending)
	return b.String()
}
