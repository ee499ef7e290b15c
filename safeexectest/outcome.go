package safeexectest

import (
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// An Outcome is what comes of a command of a [Fake]. The zero Outcome reads the standard input to its end, writes
// nothing and exits with 0. The functions of this package make the outcomes of the errors of safeexec.
type Outcome struct {
	// Do is the program, if it is set: it gets the arguments, program first, and returns the exit code. It should end
	// when its standard input or the context does, which SIGKILL ends, like every signal that is not handled.
	// Stdout, Stderr and ExitCode have no meaning then.
	Do func(p Process) int

	Stdout, Stderr string
	ExitCode       int
	Signal         syscall.Signal // that ends it, sent from outside the run
	IgnoresStdin   bool           // nothing is read
	After          time.Duration  // how long it runs after that
	Hangs          bool           // until a signal or its timeout ends it
	IgnoresTerm    bool           // no signal but SIGKILL ends it; the grace period is skipped

	// Cause has Run end the command for a reason, as if its time had come, after it has written: CauseTimeout,
	// CauseCanceled, CauseIdle, CauseStopped.
	Cause safeexec.Cause
	// Report says why it did not go on, for Result.Report and Process.Report.
	Report *safeexec.Report

	// Usage is what the Result says that it has used. The zero Usage says that nothing is known.
	Usage safeexec.Usage

	// StartErrs are why it is not started: what os/exec would say, or errors of safeexec, in the order of precedence.
	StartErrs []error

	// Result adds to the Result what comes of a tree: Killed, Survivors, Holders, Abandoned, OOMKilled, and so on.
	// Survivors, Holders, OOMKilled and Abandoned make the error that belongs to them. What the run finds out by
	// itself cannot be set, and fails the test: Cause, ExitCode, Signal and the streams are fields of the Outcome.
	Result func(*safeexec.Result)

	end seam.End // what has no field in the Result
}

// change adds to the Result what the run cannot have seen. Of what the run would change back it tells the test.
func (o *Outcome) change(r *safeexec.Result, t testing.TB) {
	r.Usage = o.Usage
	if o.Result == nil {
		return
	}
	before := *r
	o.Result(r)
	for _, field := range []struct {
		name    string
		changed bool
		instead string
	}{
		{"Cause", r.Cause != before.Cause, "set Outcome.Cause"},
		{"ExitCode", r.ExitCode != before.ExitCode, "set Outcome.ExitCode"},
		{"Signal", r.Signal != before.Signal, "set Outcome.Signal"},
		{"SignaledBy", r.SignaledBy != before.SignaledBy, "set Outcome.Signal, or Outcome.Cause"},
		{"CoreDumped", r.CoreDumped != before.CoreDumped, "no outcome has it"},
		{"State", r.State != before.State, "set Outcome.ExitCode or Outcome.Signal"},
		{"Stdout", changed(r.Stdout, before.Stdout), "set Outcome.Stdout"},
		{"Stderr", changed(r.Stderr, before.Stderr), "set Outcome.Stderr"},
		{"Command", len(r.Command) != len(before.Command), "safeexec.WithRedact makes it"},
		{"ObserverErr", r.ObserverErr != before.ObserverErr, "an observer makes it"}, //nolint:errorlint // the very value
	} {
		if field.changed {
			t.Errorf("safeexectest: Outcome.Result sets %s, which the run sets: %s", field.name, field.instead)
		}
	}
}

// changed reports whether somebody has written to a stream that was empty.
func changed(s, before safeexec.Stream) bool {
	return s.Total != before.Total || s.Dropped != before.Dropped ||
		s.Err != before.Err || //nolint:errorlint // the very value
		len(s.Bytes()) != len(before.Bytes())
}

// check returns why the outcome cannot be, nil if it can.
func (o *Outcome) check() error {
	switch o.Cause {
	case safeexec.CauseNone, safeexec.CauseTimeout, safeexec.CauseCanceled, safeexec.CauseIdle, safeexec.CauseStopped:
		return nil
	case safeexec.CauseLimits:
		if o.end.Limits != nil {
			return nil //nolint:nilerr // it is the outcome's
		}
	}
	return fmt.Errorf("safeexectest: no command ends for Outcome.Cause %q: its other fields say what happens", o.Cause)
}

// A Process is what [Outcome.Do] has of its command.
type Process struct {
	PID            int
	Args           []string
	Dir            string
	Env            []string
	Stdin          io.Reader // never nil
	Stdout, Stderr io.Writer
	Killed         <-chan struct{} // closed by a signal that is not ignored
}

// startError is the reason as the run takes it, nil if the command is started.
func (o *Outcome) startError(cmd *exec.Cmd) error {
	switch len(o.StartErrs) {
	case 0:
		return nil
	case 1:
	default:
		return seam.Errors(o.StartErrs)
	}
	//nolint:errorlint // the sentinels alone
	switch o.StartErrs[0] {
	case safeexec.ErrNotFound:
		return &exec.Error{Name: filepath.Base(cmd.Path), Err: exec.ErrNotFound}
	case safeexec.ErrNotExecutable:
		return &fs.PathError{Op: "fork/exec", Path: cmd.Path, Err: syscall.EACCES}
	}
	return o.StartErrs[0]
}

// TimedOut is a command that its timeout ended: the run does not wait for it. report may be nil. The error
// matches safeexec.ErrTimeout and context.DeadlineExceeded.
func TimedOut(report *safeexec.Report) Outcome {
	return Outcome{Cause: safeexec.CauseTimeout, Report: report}
}

// Canceled is a command that was ended since its context was canceled.
func Canceled() Outcome { return Outcome{Cause: safeexec.CauseCanceled} }

// Idle is a command that was ended by WithIdleTimeout.
func Idle(report *safeexec.Report) Outcome {
	return Outcome{Cause: safeexec.CauseIdle, Report: report}
}

// Stopped is a command that Process.Stop ended.
func Stopped() Outcome { return Outcome{Cause: safeexec.CauseStopped} }

// NotFound is a program that is not there.
func NotFound() Outcome { return Refused(safeexec.ErrNotFound) }

// NotExecutable is a program that may not be executed.
func NotExecutable() Outcome { return Refused(safeexec.ErrNotExecutable) }

// BadDir is a command whose Dir is not there.
func BadDir() Outcome { return Refused(safeexec.ErrBadDir, syscall.ENOENT) }

// StartStalled is a command whose file does not answer: the start is ended by the timeout or the context.
func StartStalled() Outcome { return Refused(safeexec.ErrStartStalled) }

// Refused is a command that is not started, for these reasons: any error of the table that says so, a
// *safeexec.ContainmentError, a *safeexec.LeakedFDsError, syscall.EAGAIN.
func Refused(reasons ...error) Outcome { return Outcome{StartErrs: reasons} }

// LimitsFailed is a command that was ended since WithLimit or WithNice could not be kept: safeexec.ErrLimits.
func LimitsFailed(reason error) Outcome {
	return Outcome{Cause: safeexec.CauseLimits, end: seam.End{Limits: reason}}
}

// OOMKilled is a command that the kernel killed for want of memory.
func OOMKilled() Outcome {
	return Outcome{Signal: syscall.SIGKILL, Result: func(r *safeexec.Result) { r.OOMKilled = true }}
}

// PipeHeld is a command that exited, while others hold its output.
func PipeHeld(holders ...safeexec.Holder) Outcome {
	return Outcome{Result: func(r *safeexec.Result) { r.Holders = holders }}
}

// Survived is a command that exited, and left processes that SIGKILL does not end.
func Survived(processes ...safeexec.ProcessInfo) Outcome {
	return Outcome{Result: func(r *safeexec.Result) { r.Survivors = processes }}
}

// WriterStuck is a command whose Stdout, a Writer, did not return.
func WriterStuck() Outcome { return abandoned(safeexec.AbandonedStdout) }

// ReaderStuck is a command whose Stdin, a Reader, did not return.
func ReaderStuck() Outcome { return abandoned(safeexec.AbandonedStdin) }

func abandoned(what safeexec.Abandoned) Outcome {
	return Outcome{Result: func(r *safeexec.Result) { r.Abandoned = append(r.Abandoned, what) }}
}

// StatusUnknown is a command whose status another wait took.
func StatusUnknown() Outcome { return Outcome{end: seam.End{Lost: true}} }

// TreeUnseen is a command whose tree could not be looked at.
func TreeUnseen() Outcome { return Outcome{end: seam.End{Unseen: true}} }

// Redacted is an outcome whose command lines could not be redacted: the error is added to those that there are.
func Redacted(o Outcome, err *safeexec.RedactError) Outcome {
	o.end.Redact = err
	return o
}
