package safeexec

import (
	"context"
	"io"
	"math"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
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

// An Overflow says what happens when a command writes more than the output limit.
type Overflow int

// The policies at the output limit.
const (
	// OverflowTruncate goes on reading and counting, and keeps the first and the last bytes.
	OverflowTruncate Overflow = iota
	// OverflowStop ends the run with [ErrOutputLimit]. It limits streams with a Writer of the
	// caller's as well, which never gets more than the limit.
	OverflowStop
)

// config is what the options add up to. It is filled by resolve and read-only afterwards.
type config struct {
	timeout     time.Duration // 0: the context's deadline alone
	grace       time.Duration
	linger      time.Duration
	kill        time.Duration
	drain       time.Duration
	startRetry  time.Duration
	report      time.Duration // for the report; only tests change it
	idle        time.Duration // 0: no limit
	termSignal  syscall.Signal
	diagnostic  diagnosticOption // in force if diagnosticSet
	outputLimit int64
	overflow    Overflow
	background  Background

	fdPolicy FDPolicy
	fds      []int // of WithFDs
	limits   []resourceLimit
	nice     int // in force if niceSet

	containment *containment // nil where none was asked for
	redact      func(command []string) []string
	observers   []Observer
	forces      []context.Context // of WithForce and NotifyContext

	timeoutSet, idleSet, diagnosticSet, niceSet bool

	stopOnWriteError bool
	noReport         bool

	tee   [2]io.Writer // of standard output and standard error
	lines func(Line)

	proof    bool
	guard    bool
	terminal bool
	merge    bool // both outputs through one pipe
	complete bool // a truncated stdout is an error; set by Output and CombinedOutput
}

// defaults is the only place where defaults are set.
func defaults() config {
	return config{
		grace:       DefaultGracePeriod,
		linger:      DefaultLinger,
		kill:        DefaultKillTimeout,
		drain:       DefaultDrainTimeout,
		startRetry:  DefaultStartRetry,
		report:      ReportBound,
		termSignal:  syscall.SIGTERM,
		outputLimit: DefaultOutputLimit,
	}
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

func (o timeoutOption) apply(c *config)     { c.timeout, c.timeoutSet = time.Duration(o), true }
func (o graceOption) apply(c *config)       { c.grace = time.Duration(o) }
func (o lingerOption) apply(c *config)      { c.linger = time.Duration(o) }
func (o killOption) apply(c *config)        { c.kill = time.Duration(o) }
func (o drainOption) apply(c *config)       { c.drain = time.Duration(o) }
func (o idleOption) apply(c *config)        { c.idle, c.idleSet = time.Duration(o), true }
func (o termSignalOption) apply(c *config)  { c.termSignal = syscall.Signal(o) }
func (o outputLimitOption) apply(c *config) { c.outputLimit = int64(o) }
func (o overflowOption) apply(c *config)    { c.overflow = Overflow(o) }
func (o redactOption) apply(c *config)      { c.redact = o }
func (stopWriteOption) apply(c *config)     { c.stopOnWriteError = true }
func (noReportOption) apply(c *config)      { c.noReport = true }
func (mergeOption) apply(c *config)         { c.merge = true }
func (completeOption) apply(c *config)      { c.complete = true }

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

// WithOutputLimit sets how many bytes of each captured stream are kept, half of them from its
// beginning and half from its end. Zero keeps none; all are read and counted in any case.
func WithOutputLimit(n int64) Option { return outputLimitOption(n) }

// WithOverflow sets what happens when a stream exceeds the output limit.
func WithOverflow(policy Overflow) Option { return overflowOption(policy) }

// WithStopOnWriteError ends the run when a Writer of the command's Stdout or Stderr fails, with
// [CauseWriterFailed]. Without it the command runs on and its output is dropped, as counted in
// [Stream.Dropped]; the error matches [ErrWriterFailed] in either case.
func WithStopOnWriteError() Option { return stopWriteOption{} }

// WithoutReport has a run that is ended by force do without the [Report]: the first signal is sent at
// once, and nothing says what the command was blocked in.
func WithoutReport() Option { return noReportOption{} }

// WithRedact makes a [Report] and the [Result] hold command lines: f gets the arguments of one process at a
// time, program first, and returns those to be shown, nil for none. [RedactSecrets] is such a function.
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
		c.forces = append(c.forces, force)
	}
	return c.check(cmd)
}

func (c *config) check(cmd *exec.Cmd) error {
	if err := notNegative(
		bound{"WithTimeout", c.timeout},
		bound{"WithIdleTimeout", c.idle},
		bound{"WithLinger", c.linger},
		bound{"WithDrainTimeout", c.drain},
		bound{"WithStartRetry", c.startRetry},
	); err != nil {
		return err
	}
	if err := c.checkLadder(); err != nil {
		return err
	}
	switch {
	case c.timeoutSet && c.timeout == 0:
		return &ConfigError{Name: "WithTimeout", Reason: "must be positive"}
	case c.idleSet && c.idle == 0:
		return &ConfigError{Name: "WithIdleTimeout", Reason: "must be positive"}
	case c.outputLimit < 0 || c.outputLimit > math.MaxInt/2:
		return &ConfigError{Name: "WithOutputLimit", Reason: "is out of range"}
	case c.overflow != OverflowTruncate && c.overflow != OverflowStop:
		return &ConfigError{Name: "WithOverflow", Reason: "is no known policy"}
	case c.idle > 0 && engine.Direct(cmd.Stdout) && engine.Direct(cmd.Stderr):
		return &ConfigError{Name: "WithIdleTimeout", Reason: "needs an output stream that is not an *os.File"}
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
	if c.termSignal <= 0 || c.termSignal > engine.MaxSignal {
		return &ConfigError{Name: "WithTermSignal", Reason: "is no signal"}
	}
	return notNegative(bound{"WithGracePeriod", c.grace}, bound{"WithKillTimeout", c.kill})
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
