package safeexec

import (
	"fmt"
	"os/exec"
	"strings"
	"time"
)

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
	PTYRows     int         `json:"pty_rows,omitzero"` // of the command's own terminal; 0 for none
	PTYCols     int         `json:"pty_cols,omitzero"`
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
		Timeout: c.timeout, GracePeriod: c.grace, Linger: c.linger, KillTimeout: c.kill, DrainTimeout: c.drain,
		IdleTimeout: c.idle, Ending: c.ending(), TermSignal: c.termSignal.String(), OutputLimit: c.outputLimit,
		Overflow: c.overflow, Background: c.background, FDPolicy: c.fdPolicy, FDProof: c.proof,
		Report: !c.noReport, Terminal: c.terminal,
	}
	if c.containment != nil {
		s.Containment = c.containment.rung
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
