package safeexec

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// A detail is a sentinel with the facts of one run, and the error behind it if there is one.
type detail struct {
	text string
	errs []error
}

func (d *detail) Error() string   { return "safeexec: " + d.text }
func (d *detail) Unwrap() []error { return d.errs }

func detailed(kind error, format string, args ...any) error {
	return &detail{fmt.Sprintf(format, args...), []error{kind}}
}

// span is a duration as errors name it.
func span(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// plain is a name as errors write it: quoted if it could be taken for something else.
func plain(name string) string {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || strings.ContainsRune(" \"':;,()", r) }
	if name == "" || strings.IndexFunc(name, odd) >= 0 {
		return strconv.Quote(name)
	}
	return name
}

// nameOf is how errors name a process.
func nameOf(p ProcessInfo) string {
	if p.Name == "" {
		return fmt.Sprintf("pid %d", p.PID)
	}
	return fmt.Sprintf("%s (pid %d)", plain(p.Name), p.PID)
}

// maxNamed is how many processes an error names.
const maxNamed = 3

// nameAll names processes, the first few of many.
func nameAll(n int, process func(i int) ProcessInfo) string {
	var names []string
	for i := range min(n, maxNamed) {
		names = append(names, nameOf(process(i)))
	}
	if n > maxNamed {
		names = append(names, fmt.Sprintf("%d more", n-maxNamed))
	}
	return strings.Join(names, ", ")
}

var streamNames = [...]string{"standard input", "standard output", "standard error"}

// noteCause records what is known when the run is to end: later the context may say something else,
// and output may have moved.
func (r *run) noteCause() {
	now := time.Now()
	r.atCause.after = now.Sub(r.result.Times.Started)
	r.atCause.silent = now.Sub(r.streams.LastOutput)
	if r.result.Cause != CauseTimeout && r.result.Cause != CauseCanceled {
		return
	}
	if r.ctxErr = r.ctx.Err(); r.ctxErr != nil {
		r.ctxCause = context.Cause(r.ctx)
		return
	}
	d, ok := r.ctx.Deadline()
	r.atCause.byContext = ok && r.result.Cause == CauseTimeout && d.Equal(r.deadline)
}

// An atCause is what noteCause records.
type atCause struct {
	after     time.Duration // since Run or Start was called
	silent    time.Duration // since the last output
	byContext bool          // the context's deadline passed, and its own timer was behind ours
}

// timerSlack is how long a context's own timer is waited for, so that context.Cause is known. It has
// nearly always fired while the tree was ended.
const timerSlack = 50 * time.Millisecond

func (r *run) awaitContext() {
	if !r.atCause.byContext || r.ctxErr != nil {
		return
	}
	late := time.NewTimer(timerSlack)
	defer late.Stop()
	select {
	case <-r.ctx.Done():
	case <-late.C:
	}
	if err := r.ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		r.ctxErr, r.ctxCause = err, context.Cause(r.ctx)
	}
}

// causeErrors returns the sentinel of the cause and what the context says of it.
func (r *run) causeErrors() []error {
	r.awaitContext()
	var errs []error
	if r.limitErr != nil {
		errs = flatten(r.limitErr)
	}
	after := span(r.atCause.after)
	switch r.result.Cause {
	case CauseTimeout:
		errs = append(errs, detailed(ErrTimeout, "timed out after %s (%s)", after, r.deadlineName()))
	case CauseCanceled:
		errs = append(errs, detailed(ErrCanceled, "canceled after %s", after))
	case CauseIdle:
		errs = append(errs, detailed(ErrIdle, "no output for %s (limit %v)", span(r.atCause.silent), r.cfg.idle))
	case CauseOutputLimit:
		errs = append(errs, r.outputLimitError())
	case CauseStopped:
		errs = append(errs, detailed(ErrStopped, "stopped after %s", after))
	case CauseNone, CauseExited, CauseStartFailed, CauseLimits, CauseWriterFailed:
	}
	if r.result.Cause == CauseTimeout || r.result.Cause == CauseCanceled {
		if r.ctxErr != nil {
			errs = append(errs, r.ctxErr)
			if r.ctxCause != r.ctxErr { //nolint:errorlint // the very value
				errs = append(errs, r.ctxCause)
			}
		}
	}
	return errs
}

// deadlineName says which deadline it was that passed.
func (r *run) deadlineName() string {
	switch d, ok := r.ctx.Deadline(); {
	case r.ctxErr == nil && r.cmdCanceled.Load():
		return "deadline of the command's context"
	case ok && d.Equal(r.deadline), r.cfg.timeout == 0:
		return "deadline of the context"
	case r.timeoutSeen != 0:
		return "timeout " + span(r.cfg.timeout)
	}
	return "timeout " + r.cfg.timeout.String()
}

// causeError is why nothing was started.
func (r *run) causeError() error {
	r.noteCause()
	return join(r.causeErrors()...)
}

func (r *run) outputLimitError() error {
	for fd := 1; fd < len(r.streams.Each); fd++ {
		if s := &r.streams.Each[fd]; s.Kind.IsOutput() && s.Out.Total() > r.cfg.outputLimit {
			return detailed(ErrOutputLimit, "%s exceeded its limit: %d bytes (limit %d)",
				r.outputName(fd), s.Out.Total(), r.cfg.outputLimit)
		}
	}
	return ErrOutputLimit
}

// outputName names an output in errors.
func (r *run) outputName(fd int) string {
	if r.merged() {
		return "output"
	}
	return streamNames[fd]
}

func (r *run) oomError() error {
	if c := r.cfg.containment; c != nil && c.memorySet {
		return detailed(ErrOOMKilled, "killed for want of memory (limit %d bytes)", c.limits.Memory)
	}
	return ErrOOMKilled
}

// heldError names the pipes that are held, and the holders.
func (r *run) heldError() error {
	var pipes []string
	for fd, held := range r.held {
		if held {
			pipes = append(pipes, r.outputName(fd))
		}
	}
	verb := " is held by "
	if len(pipes) > 1 {
		verb = " are held by "
	}
	by := "a process that was not found"
	switch holders := r.result.Holders; {
	case len(holders) > 0:
		by = nameAll(len(holders), func(i int) ProcessInfo { return holders[i].ProcessInfo })
	case r.result.HoldersPartial:
		by += " in " + span(holderBound)
	}
	return detailed(ErrPipeHeld, "%s%s%s", strings.Join(pipes, " and "), verb, by)
}

func survivorsError(survivors []ProcessInfo, waited time.Duration) error {
	what := "process"
	if len(survivors) > 1 {
		what = "processes"
	}
	bound := ""
	if waited > 0 {
		bound = fmt.Sprintf(" for %v", waited)
	}
	return detailed(ErrSurvivors, "%d %s survived SIGKILL%s: %s", len(survivors), what, bound,
		nameAll(len(survivors), func(i int) ProcessInfo { return survivors[i] }))
}

// streamErrors returns what the caller's Reader and Writers did.
func (r *run) streamErrors() []error {
	var errs []error
	for _, a := range r.result.Abandoned {
		switch a {
		case AbandonedStdout, AbandonedStderr:
			name := r.outputName(1 + int(a-AbandonedStdout))
			errs = append(errs, detailed(ErrWriterStuck, "writer of %s does not return (waited %v)", name, r.cfg.drain))
		case AbandonedStdin:
			errs = append(errs, detailed(ErrReaderStuck, "reader of standard input does not return (waited %v)", r.cfg.drain))
		}
	}
	for fd := range r.streams.Each {
		switch s := &r.streams.Each[fd]; {
		case s.Kind == engine.StreamInput && s.In.Err() != nil:
			errs = append(errs, fmt.Errorf("standard input: %w", s.In.Err()))
		case s.Kind.HasWriter() && s.Out.Err() != nil:
			err := s.Out.Err()
			errs = append(errs, &detail{
				text: fmt.Sprintf("writer of %s failed, %d of %d bytes dropped: %v",
					r.outputName(fd), s.Out.Dropped(), s.Out.Total(), err),
				errs: []error{ErrWriterFailed, err},
			})
		case s.Kind == engine.StreamCaptured && s.Out.Err() != nil:
			errs = append(errs, fmt.Errorf("%s: %w", r.outputName(fd), s.Out.Err()))
		}
	}
	return errs
}

// join is errors.Join of one or more errors, flat.
func join(errs ...error) error {
	if len(errs) == 1 {
		return errs[0]
	}
	return &several{errs}
}

type several struct{ errs []error }

func (s *several) Error() string   { return (&Error{Op: "run", errs: s.errs}).Error() }
func (s *several) Unwrap() []error { return s.errs }

func flatten(err error) []error {
	if s, ok := err.(*several); ok { //nolint:errorlint // our own, not wrapped
		var flat []error
		for _, e := range s.errs {
			flat = append(flat, flatten(e)...)
		}
		return flat
	}
	return []error{err}
}
