package safeexec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// The values of a Result are written by their names, in JSON and elsewhere, and read again from them. A value
// that has no name can not be read.

// MarshalText returns the cause in words.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Cause) UnmarshalText(text []byte) error { return readName(c, "cause", causes[:], text) }

// MarshalText returns the signaler in words.
func (s Signaler) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Signaler) UnmarshalText(text []byte) error {
	return readName(s, "signaler", signalers[:], text)
}

// MarshalText returns the rung's name.
func (c Containment) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Containment) UnmarshalText(text []byte) error {
	return readName(c, "containment", containments[:], text)
}

// MarshalText returns what was left behind.
func (a Abandoned) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Abandoned) UnmarshalText(text []byte) error {
	return readName(a, "abandoned", abandoned[:], text)
}

// MarshalText lists the tracks, separated by commas.
func (t Tracks) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Tracks) UnmarshalText(text []byte) error {
	tracks, unknown := proctree.ParseTracks(string(text))
	if unknown != "" {
		return fmt.Errorf("safeexec: no track is called %q", unknown)
	}
	*t = Tracks(tracks)
	return nil
}

// readName sets the value to the index of its name.
func readName[T ~int](to *T, what string, names []string, text []byte) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("safeexec: no %s is called %q", what, text)
	}
	*to = T(i)
	return nil
}

// Describe says in one sentence how the run ended, for people and for language models: err is what Run returned
// beside the Result. It holds no arguments and no environment, unless [WithRedact] let some of the arguments through.
func (r Result) Describe(err error) string {
	program := r.Program
	if len(r.Command) > 0 {
		program = strings.Join(r.Command, " ")
	}
	if program == "" {
		program = "the command"
	}
	took := span(r.Times.Total)
	var b strings.Builder
	switch {
	case r.PID == 0:
		fmt.Fprintf(&b, "%s was not started", program)
	case r.Cause == CauseExited && r.Signal != 0:
		fmt.Fprintf(&b, "%s was killed by a signal (%v) from elsewhere after %s", program, r.Signal, took)
	case r.Cause == CauseExited && r.ExitCode == 0:
		fmt.Fprintf(&b, "%s succeeded in %s", program, took)
	case r.Cause == CauseExited && r.ExitCode > 0:
		fmt.Fprintf(&b, "%s failed with exit status %d after %s", program, r.ExitCode, took)
	case r.Cause == CauseExited:
		fmt.Fprintf(&b, "%s ended after %s", program, took)
	default:
		fmt.Fprintf(&b, "%s was ended after %s (%v)", program, took, r.Cause)
	}
	if n := len(r.Killed); n > 0 && r.Cause == CauseExited {
		fmt.Fprintf(&b, "; %d of its background processes were killed", n)
	}
	if n := len(r.Left); n > 0 {
		fmt.Fprintf(&b, "; %d of its processes were left running", n)
	}
	if n := len(r.Survivors); n > 0 {
		fmt.Fprintf(&b, "; %d of its processes could not be killed", n)
	}
	if n := r.Stdout.Dropped + r.Stderr.Dropped; n > 0 {
		fmt.Fprintf(&b, "; %d bytes of its output were dropped", n)
	}
	if err != nil && (r.PID == 0 || r.Cause != CauseExited) {
		fmt.Fprintf(&b, ": %s", oneLine(err.Error()))
	}
	b.WriteByte('.')
	return b.String()
}
