package safeexec

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// fill makes the result from the facts. It may be called again once more is known.
func (r *run) fill() {
	f := &r.life.Facts
	res := &r.result
	res.PID, res.Cause = f.PID, Cause(f.Cause)
	res.Killed, res.Survivors, res.Left = infos(f.Killed), infos(f.Survivors), infos(f.Left)
	res.Holders = holders(f.Holders)
	res.HoldersPartial, res.Hidden = f.HoldersPartial, f.Hidden
	res.LeftPipes = nil
	for _, p := range f.LeftPipes {
		res.LeftPipes = append(res.LeftPipes, newLeftPipe(p))
	}
	r.addAbandoned()
	res.Tracks, res.Containment = Tracks(f.Tracks), Containment(f.Containment)
	res.OOMKilled, res.LeftCgroup = f.OOMKilled, f.LeftCgroup
	res.MarkedFDs, res.LeakedFDs, res.DeclaredFDs = fds(f.MarkedFDs), fds(f.LeakedFDs), fds(f.DeclaredFDs)
	res.FDsProved, res.FDErr = f.FDsProved, f.FDErr
	res.Usage = newUsage(f.Usage)
	res.GuardRestarts, res.StartRetries = f.GuardRestarts, f.StartRetries
	t := f.Times
	res.Times = Times{
		Started: res.Times.Started, Start: t.Start, Run: t.Run, Report: t.Report, Diagnostic: t.Diagnostic,
		Stop: t.Stop, Drain: t.Drain, Total: t.Total,
	}
	r.fillReport()
}

// Played is fill for a command that a fake has answered for, which adds what it alone knows.
func (r *run) Played() {
	r.fill()
	f := &r.life.Facts
	if change, ok := f.End.Change.(func(*Result)); ok {
		change(&r.result)
	}
	f.Held[1] = len(r.result.Holders) > 0
	f.Survivors = nil // for StopAll
	for _, p := range r.result.Survivors {
		f.Survivors = append(f.Survivors, engine.Process{PID: p.PID, Start: p.StartTicks, Name: p.Name})
	}
}

// addAbandoned adds what was left behind since it was last called.
func (r *run) addAbandoned() {
	for _, a := range r.life.Facts.Abandoned[r.abandoned:] {
		r.result.Abandoned = append(r.result.Abandoned, Abandoned(a))
	}
	r.abandoned = len(r.life.Facts.Abandoned)
}

// fillReport adds the report of what the command was blocked in, if one was taken.
func (r *run) fillReport() {
	switch f := &r.life.Facts; {
	case f.Reported && r.life.Actor != nil && f.Subject == 0: // else a process that the actor has started was looked at
		r.result.Report, _ = r.life.Actor.Report().(*Report)
	case f.Reported:
		report := newReport(f.Subject, f.Snapshot)
		if f.Snapshot == nil {
			report.Taken = f.Taken
		}
		r.result.Report = &report
		r.nameHolders()
	}
}

func info(p engine.Process) ProcessInfo {
	return ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: p.Name}
}

func infos(list []engine.Process) []ProcessInfo {
	var out []ProcessInfo
	for _, p := range list {
		out = append(out, info(p))
	}
	return out
}

func holders(list []engine.Holder) []Holder {
	var out []Holder
	for _, h := range list {
		out = append(out, Holder{ProcessInfo: info(h.Process), FDs: h.FDs})
	}
	return out
}

// outcome completes the result and makes the error. Run or the first Wait calls it, once.
func (r *run) outcome() (err error) {
	defer func() { r.endObserving(err) }()
	err = errUnfinished // if the context panics
	r.life.Conclude()
	f := &r.life.Facts
	r.result.Cause = Cause(f.Cause)
	r.addAbandoned()
	r.result.Stdout, r.result.Stderr = streamOf(f.Output[1]), streamOf(f.Output[2])
	if r.result.State = f.State; f.State != nil {
		r.result.ExitCode = f.State.ExitCode()
		r.result.Signal, r.result.SignaledBy, r.result.CoreDumped = f.Signal, Signaler(f.SignaledBy), f.CoreDumped
	}
	errs := r.causeErrors()
	truncated := r.cfg.OverflowStops && r.life.Streams.Overflowed() || r.cfg.complete && r.result.Stdout.Dropped > 0
	if truncated && r.result.Cause != CauseOutputLimit {
		errs = append(errs, r.outputLimitError())
	}
	if r.result.OOMKilled && (f.State == nil || !f.State.Success()) {
		errs = append(errs, r.oomError())
	}
	var exit *exec.ExitError
	switch {
	case f.WaitErr != nil:
		errs = append(errs, ErrStatusUnknown, f.WaitErr)
	case f.State != nil && !f.State.Success():
		exit = &exec.ExitError{ProcessState: f.State, Stderr: abridged(&r.result.Stderr)}
		errs = append(errs, exit)
	}
	if f.Held != [3]bool{} {
		errs = append(errs, r.heldError())
	}
	errs = append(errs, r.streamErrors()...)
	if len(r.result.Survivors) > 0 {
		errs = append(errs, survivorsError(r.result.Survivors, r.cfg.Kill))
	}
	if r.life.Unseen {
		errs = append(errs, ErrTreeUnseen)
	}
	if r.redactErr != nil && len(errs) > 0 { // alone it is no failure of the command
		errs = append(errs, r.redactErr)
	}
	switch {
	case len(errs) == 0:
		return nil
	case len(errs) == 1 && exit != nil:
		return exit
	}
	return &Error{Op: "run", Program: r.result.Program, PID: r.result.PID, Report: r.result.Report, errs: errs}
}

// refuse is the outcome of a run that was not started.
func (r *run) refuse(err error) error {
	r.fill()
	if r.result.Cause == CauseNone {
		r.result.Cause = CauseStartFailed
	}
	r.redact()
	r.result.Times.Total = time.Since(r.result.Times.Started)
	res := r.result // a copy: the run is not to be kept alive
	return &Error{Op: "start", Program: r.result.Program, Result: &res, errs: flatten(err)}
}

// named returns what an error of the engine is to the caller, in the order of precedence.
func (r *run) named(err error) []error {
	switch e := err.(type) { //nolint:errorlint // the engine's own, not wrapped
	case engine.Errors:
		var all []error
		for _, each := range e {
			all = append(all, r.named(each)...)
		}
		return all
	case *engine.StartError:
		return flatten(r.startError(e.Err))
	case *engine.ConfigError:
		return []error{&ConfigError{Name: e.Name, Reason: e.Reason}}
	case *engine.LeakedFDsError:
		return []error{&LeakedFDsError{FDs: fds(e.FDs)}}
	case *engine.ContainmentError:
		return []error{&ContainmentError{Cgroup: e.Cgroup, Controller: e.Controller, Err: join(e.Errs...)}}
	}
	if err == engine.ErrCause { //nolint:errorlint // the very value
		r.life.NameCause()
		return r.causeErrors()
	}
	return flatten(err)
}

// causeErrors returns the sentinel of the cause and what the context says of it.
func (r *run) causeErrors() []error {
	f := &r.life.Facts
	var errs []error
	if f.LimitErr != nil {
		errs = []error{ErrLimits, f.LimitErr}
	}
	after := span(f.After)
	switch f.Cause {
	case engine.CauseTimeout:
		errs = append(errs, detailed(ErrTimeout, "timed out after %s (%s)", after, r.deadlineName()))
	case engine.CauseCanceled:
		errs = append(errs, detailed(ErrCanceled, "canceled after %s", after))
	case engine.CauseIdle:
		errs = append(errs, detailed(ErrIdle, "no output for %s (limit %v)", span(f.Silent), r.cfg.Idle))
	case engine.CauseOutputLimit:
		errs = append(errs, r.outputLimitError())
	case engine.CauseStopped:
		errs = append(errs, detailed(ErrStopped, "stopped after %s", after))
	case engine.CauseNone, engine.CauseExited, engine.CauseStartFailed, engine.CauseLimits, engine.CauseWriterFailed:
	}
	if f.CtxErr != nil && (f.Cause == engine.CauseTimeout || f.Cause == engine.CauseCanceled) {
		errs = append(errs, f.CtxErr)
		if f.CtxCause != f.CtxErr { //nolint:errorlint // the very value
			errs = append(errs, f.CtxCause)
		}
	}
	return errs
}

// deadlineName says which deadline it was that passed.
func (r *run) deadlineName() string {
	switch r.life.Facts.Settled {
	case engine.DeadlineCommands:
		return "deadline of the command's context"
	case engine.DeadlineContext:
		return "deadline of the context"
	case engine.DeadlineSet:
		return "timeout " + span(r.cfg.Timeout)
	}
	return "timeout " + r.cfg.Timeout.String()
}

func (r *run) outputLimitError() error {
	for fd, out := range r.life.Facts.Output {
		if out.Kind.IsOutput() && out.Total > r.cfg.OutputLimit {
			return detailed(ErrOutputLimit, "%s exceeded its limit: %d bytes (limit %d)",
				r.outputName(fd), out.Total, r.cfg.OutputLimit)
		}
	}
	return ErrOutputLimit
}

// outputName names an output in errors.
func (r *run) outputName(fd int) string {
	if r.life.Merged() {
		return "output"
	}
	return streamNames[fd]
}

func (r *run) oomError() error {
	if c := r.cfg.Containment; c != nil && r.cfg.memorySet {
		return detailed(ErrOOMKilled, "killed for want of memory (limit %d bytes)", c.Limits.Memory)
	}
	return ErrOOMKilled
}

// heldError names the pipes that are held, and the holders.
func (r *run) heldError() error {
	var pipes []string
	for fd, held := range r.life.Facts.Held {
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
		by += " in " + span(engine.HolderBound)
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
			errs = append(errs, detailed(ErrWriterStuck, "writer of %s does not return (waited %v)", name, r.cfg.Drain))
		case AbandonedStdin:
			errs = append(errs, detailed(ErrReaderStuck, "reader of standard input does not return (waited %v)", r.cfg.Drain))
		}
	}
	for fd, s := range r.life.Facts.Output {
		switch {
		case s.Err == nil:
		case s.Kind == engine.StreamInput:
			errs = append(errs, fmt.Errorf("standard input: %w", s.Err))
		case s.Kind.HasWriter():
			errs = append(errs, &detail{
				text: fmt.Sprintf("writer of %s failed, %d of %d bytes dropped: %v",
					r.outputName(fd), s.Undelivered, s.Total, s.Err),
				errs: []error{ErrWriterFailed, s.Err},
			})
		case s.Kind == engine.StreamCaptured:
			errs = append(errs, fmt.Errorf("%s: %w", r.outputName(fd), s.Err))
		}
	}
	return errs
}

// streamOf is what the result says of a stream.
func streamOf(k engine.Kept) Stream {
	return Stream{Total: k.Total, Dropped: k.Dropped, Err: k.Err, data: k.Data, head: k.Head}
}

// stderrPart is how much of each end of the standard error an *exec.ExitError gets from os/exec.
const stderrPart = 32 << 10

// abridged returns what os/exec puts into ExitError.Stderr: all of it, or its two ends and a line that
// says how much is missing.
func abridged(o *Stream) []byte {
	if o.Dropped == 0 && len(o.data) <= 2*stderrPart {
		return o.data
	}
	head, tail := o.data[:o.head], o.data[o.head:]
	if o.Dropped == 0 {
		head, tail = o.data[:stderrPart], o.data[stderrPart:]
	}
	head = head[:min(len(head), stderrPart)]
	tail = tail[max(0, len(tail)-stderrPart):]
	omitted := o.Total - int64(len(head)+len(tail))
	return fmt.Appendf(append([]byte(nil), head...), "\n... omitting %d bytes ...\n%s", omitted, tail)
}

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
