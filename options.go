package safeexec

import (
	"context"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/redact"
)

// Defaults of the options. They are generous on purpose: a bound that is too short turns a slow
// machine into a failure. Only the timeout has no default.
const (
	DefaultGracePeriod  = 5 * time.Second
	DefaultLinger       = 100 * time.Millisecond
	DefaultKillTimeout  = 2 * time.Second
	DefaultDrainTimeout = 2 * time.Second
	DefaultStartRetry   = 250 * time.Millisecond
	DefaultOutputLimit  = 1 << 20 // bytes a stream
)

// An Option changes one default of a run. Options are applied in order, the last one wins. The zero
// value of none of them is useful; a nil Option is ignored.
type Option interface{ apply(*config) }

// config is what the options add up to. It is filled by resolve; from the start on only SetTimeout changes it.
type config struct {
	engine.Config

	overflow  Overflow
	redact    func(command []string) []string
	observers []Observer

	tee   [2]io.Writer // of standard output and standard error
	lines func(Line)
	pty   *ptyOption // of WithPTY; else nil

	timeoutSet, idleSet, memorySet, pidsSet, cpuSet bool

	complete bool // a truncated stdout is an error; set by Output and CombinedOutput
}

// defaults is the only place where defaults are set that are not the zero value.
func defaults() config {
	return config{Config: engine.Config{
		Grace:       DefaultGracePeriod,
		Linger:      DefaultLinger,
		Kill:        DefaultKillTimeout,
		Drain:       DefaultDrainTimeout,
		StartRetry:  DefaultStartRetry,
		Report:      ReportBound,
		TermSignal:  syscall.SIGTERM,
		OutputLimit: DefaultOutputLimit,
	}}
}

// configure returns what the options add up to, unchecked.
func configure(opts []Option) config {
	c := defaults()
	bundle(opts).apply(&c)
	return c
}

type bundle []Option

func (b bundle) apply(c *config) {
	for _, o := range b {
		if o != nil {
			o.apply(c)
		}
	}
}

// Options bundles options into one, for house rules that are passed first and overridden by what
// follows them.
func Options(opts ...Option) Option { return bundle(opts) }

type (
	timeoutOption     time.Duration
	graceOption       time.Duration
	lingerOption      time.Duration
	killOption        time.Duration
	drainOption       time.Duration
	idleOption        time.Duration
	termSignalOption  syscall.Signal
	outputLimitOption int64
	overflowOption    Overflow
	redactOption      func(command []string) []string
	stopWriteOption   struct{}
	noReportOption    struct{}
	mergeOption       struct{}
	completeOption    struct{}
)

func (o timeoutOption) apply(c *config)     { c.Timeout, c.timeoutSet = time.Duration(o), true }
func (o graceOption) apply(c *config)       { c.Grace = time.Duration(o) }
func (o lingerOption) apply(c *config)      { c.Linger = time.Duration(o) }
func (o killOption) apply(c *config)        { c.Kill = time.Duration(o) }
func (o drainOption) apply(c *config)       { c.Drain = time.Duration(o) }
func (o idleOption) apply(c *config)        { c.Idle, c.idleSet = time.Duration(o), true }
func (o termSignalOption) apply(c *config)  { c.TermSignal = syscall.Signal(o) }
func (o outputLimitOption) apply(c *config) { c.OutputLimit = int64(o) }
func (o overflowOption) apply(c *config) {
	c.overflow, c.OverflowStops = Overflow(o), o == overflowOption(OverflowStop)
}
func (o redactOption) apply(c *config)  { c.redact, c.Commands = o, o != nil }
func (stopWriteOption) apply(c *config) { c.StopOnWriteError = true }
func (noReportOption) apply(c *config)  { c.NoReport = true }
func (mergeOption) apply(c *config)     { c.Merge = true }
func (completeOption) apply(c *config)  { c.complete = true }

// WithTimeout bounds the run, from the call on: the start, the command, its background processes
// and its output. The earlier of d and the context's deadline counts; one of them must be there.
// When it passes, the tree is ended within the grace period and the bounds that follow it.
// d must be positive.
func WithTimeout(d time.Duration) Option { return timeoutOption(d) }

// WithGracePeriod sets how long the whole tree has to go away between the terminating signal and
// SIGKILL. Zero sends SIGKILL right after the terminating signal.
func WithGracePeriod(d time.Duration) Option { return graceOption(d) }

// WithLinger sets how long background processes may outlive a command that exited by itself before
// they are ended, with [BackgroundKill].
func WithLinger(d time.Duration) Option { return lingerOption(d) }

// WithKillTimeout sets how long processes have to die of SIGKILL before they are reported as
// survivors: in uninterruptible sleep they can take for ever.
func WithKillTimeout(d time.Duration) Option { return killOption(d) }

// WithDrainTimeout sets how long one Write of a caller's Writer may take once the tree is gone, how
// long such Writers may go on after the deadline, how long a caller's Reader may take to return from
// the Read it is in, and how long output is waited for when not all of the tree could be ended. A pipe
// that seems to be held is looked at again within it, since a child of another run has a copy of
// everything between its fork and its exec; with zero there is no time to tell.
func WithDrainTimeout(d time.Duration) Option { return drainOption(d) }

// WithIdleTimeout ends the run with [ErrIdle] when neither output stream moved for d. It needs at
// least one stream that passes through safeexec: not an *os.File. d must be positive.
func WithIdleTimeout(d time.Duration) Option { return idleOption(d) }

// WithTermSignal sets the signal that asks the tree to end, instead of SIGTERM. SIGCONT follows it,
// so that stopped processes hear it. SIGKILL skips the asking.
func WithTermSignal(sig syscall.Signal) Option { return termSignalOption(sig) }

// WithoutReport leaves out the [Report] of a run that is ended by force: the first signal is sent at
// once, and nothing says what the command was blocked in.
func WithoutReport() Option { return noReportOption{} }

// WithRedact makes a [Report] and the [Result] hold command lines: f gets the arguments of one process at a
// time, program first, and returns those to show, nil for none. [RedactSecrets] is such a function.
// f may change what it gets. It is called once the tree has ended, or by [Explain] and
// [Process.Report], on a goroutine of its own, and has a second for all command lines together. If it
// panics or does not return, the rest is left out and the error matches *[RedactError].
//
// Without it, or with nil, no command line is read: an argument may be a secret, and only the caller
// knows which. Errors and verdicts hold no arguments in any case.
func WithRedact(f func(command []string) []string) Option { return redactOption(f) }

// resolve applies opts to the defaults and checks them against each other, the context and the
// command, before anything is started.
func (c *config) resolve(ctx context.Context, cmd *exec.Cmd, opts []Option) error {
	*c = configure(opts)
	if ctx == nil {
		return &ConfigError{Name: "ctx", Reason: "is nil"}
	}
	if cmd == nil {
		return &ConfigError{Name: "cmd", Reason: "is nil"}
	}
	if cmd.Process != nil || cmd.ProcessState != nil {
		return ErrStarted
	}
	if _, ok := ctx.Deadline(); !ok && !c.timeoutSet {
		return ErrNoTimeout
	}
	if force, ok := ctx.Value(forceKey{}).(context.Context); ok {
		c.Forces = append(c.Forces, force)
	}
	return c.check(cmd)
}

func (c *config) check(cmd *exec.Cmd) error {
	if err := notNegative(
		bound{"WithTimeout", c.Timeout},
		bound{"WithIdleTimeout", c.Idle},
		bound{"WithLinger", c.Linger},
		bound{"WithDrainTimeout", c.Drain},
		bound{"WithStartRetry", c.StartRetry},
	); err != nil {
		return err
	}
	if err := c.checkLadder(); err != nil {
		return err
	}
	switch {
	case c.timeoutSet && c.Timeout == 0:
		return &ConfigError{Name: "WithTimeout", Reason: "must be positive"}
	case c.idleSet && c.Idle == 0:
		return &ConfigError{Name: "WithIdleTimeout", Reason: "must be positive"}
	case c.OutputLimit < 0 || c.OutputLimit > math.MaxInt/2:
		return &ConfigError{Name: "WithOutputLimit", Reason: "is out of range"}
	case c.overflow != OverflowTruncate && c.overflow != OverflowStop:
		return &ConfigError{Name: "WithOverflow", Reason: "is no known policy"}
	case c.Idle > 0 && engine.Direct(cmd.Stdout) && engine.Direct(cmd.Stderr):
		return &ConfigError{Name: "WithIdleTimeout", Reason: "needs an output stream that is not an *os.File"}
	}
	if err := c.checkPTY(cmd); err != nil {
		return err
	}
	if err := c.checkTee(cmd); err != nil {
		return err
	}
	if err := c.checkForce(); err != nil {
		return err
	}
	if err := c.checkBackground(); err != nil {
		return err
	}
	if err := c.checkDiagnostic(); err != nil {
		return err
	}
	if err := c.checkStop(); err != nil {
		return err
	}
	if err := c.checkContainment(cmd); err != nil {
		return err
	}
	return c.checkFDs(cmd)
}

// checkLadder checks what says how a tree is ended.
func (c *config) checkLadder() error {
	if c.TermSignal <= 0 || c.TermSignal > engine.MaxSignal {
		return &ConfigError{Name: "WithTermSignal", Reason: "is no signal"}
	}
	return notNegative(bound{"WithGracePeriod", c.Grace}, bound{"WithKillTimeout", c.Kill})
}

// A bound is a duration and the option that sets it.
type bound struct {
	option string
	value  time.Duration
}

func notNegative(bounds ...bound) error {
	for _, b := range bounds {
		if b.value < 0 {
			return &ConfigError{Name: b.option, Reason: "must not be negative"}
		}
	}
	return nil
}

type startRetryOption time.Duration

func (o startRetryOption) apply(c *config) { c.StartRetry = time.Duration(o) }

// WithStartRetry sets for how long a start is tried again that fails for want of a process, EAGAIN, or because another
// process still has the program open for writing, ETXTBSY: both usually pass within milliseconds. The pauses grow from
// 1 to 128 ms, the timeout counts all the time, and Result.StartRetries says how often it was. Zero is one try. A
// command whose pipes os/exec has made is not tried again, since a start that fails closes them.
func WithStartRetry(d time.Duration) Option { return startRetryOption(d) }

// Bound returns the sum of all bounds of a run with these options: [Run] returns by then, plus what the
// machine takes to schedule it. It counts from the call on.
//
// The sum is the timeout, [ReportBound] unless [WithoutReport] is given, the time of
// [WithDiagnosticSignal], linger, grace period, kill timeout and drain timeout, a second to
// name the holders of pipes, 50 ms for the context to agree that its deadline has passed, a tenth of
// a second to remove a cgroup, [WithContainment], a second for the function of [WithRedact], a second to
// give a terminal back, [WithTerminal], and five seconds for looks at the tree, each of which may take half a second
// although its bound has passed: a quarter to wait for a list of all processes, which runs share, and one of its own.
// With [WithDiagnosticSignal] it is one and a half seconds more.
//
// The error is that of Run for options that cannot be used, and [ErrNoTimeout] without [WithTimeout].
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

// StopBound returns how long a run with these options takes at most to return once its timeout, cancellation,
// [WithIdleTimeout] or [Process.Stop] ends it. It is what [Bound] adds to the timeout. For options that Run
// refuses the result means nothing.
func StopBound(opts ...Option) time.Duration {
	c := configure(opts)
	return c.ending()
}

// Looks at the tree that are begun when their bound has passed, at the most: two at the end of the linger, before each
// of two signals one, after each two and one at those born meanwhile, and one at what is left. A signal that asks for a
// diagnosis adds three.
const (
	lookBound   = 500 * time.Millisecond
	looksBound  = 10 * lookBound
	askingBound = 3 * lookBound
	// Looks for the holders of two pipes when the drain timeout has passed, eight at the most, with the time between
	// them, and a call on each pipe that is late.
	holdersBound = 8*engine.HolderBound + 200*time.Millisecond
)

// ending is how long a run may go on after its deadline: the sum of all that can take time then. It is
// computed nowhere else.
func (c *config) ending() time.Duration {
	d := sum(c.Linger, c.Grace, c.Kill, c.Drain, holdersBound, engine.TimerSlack, looksBound)
	if !c.NoReport {
		d = sum(d, c.Report) // one: holders are only explained where there is no report yet
	}
	if c.DiagnosticSet {
		d = sum(d, c.Diagnostic.Wait, askingBound)
	}
	if c.redact != nil {
		d = sum(d, redact.Bound)
	}
	if c.Terminal {
		d = sum(d, engine.TerminalBound)
	}
	if c.Containment != nil && c.Containment.Rung != engine.ContainmentBest {
		d = sum(d, engine.RemoveBound)
	}
	return d
}

// sum adds durations that are not negative, and returns the longest duration on overflow.
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
// that a house rule holds. [Resolve] makes them; no run has the zero value.
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
	PTYRows     int         `json:"pty_rows,omitzero"` // of the command's own terminal; 0 for none
	PTYCols     int         `json:"pty_cols,omitzero"`
}

// Resolve returns the settings that these options add up to. The error is that of [Run] for options that
// it refuses; a missing timeout is no error, since a context can have one.
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
	if c.pty != nil {
		s.PTYRows, s.PTYCols = c.pty.rows, c.pty.cols
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
