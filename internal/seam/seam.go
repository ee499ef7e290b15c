// Package seam lets a test answer for the commands of a run in place of the kernel. The context carries the Fake that
// answers. All that does not need a process stays real: the checks, the pipes, the bounds, the ladder, the errors.
package seam

import (
	"context"
	"io"
	"os/exec"
	"syscall"
	"time"
)

type key struct{}

// With returns a context whose runs ask f. With nil they start processes again.
func With(ctx context.Context, f Fake) context.Context { return context.WithValue(ctx, key{}, f) }

// From returns the Fake that answers for the runs of ctx, nil for the kernel.
func From(ctx context.Context) Fake {
	f, _ := ctx.Value(key{}).(Fake)
	return f
}

// A Fake answers for commands.
type Fake interface {
	// Start is called in place of the start, with what is to be started, which must not be changed. The error is
	// what os/exec would return; Errors are several.
	Start(call Call) (Program, error)
}

// A Killer is a Fake that answers for KillTree as well.
type Killer interface {
	// KillTree is called in place of it, with a safeexec.ProcessInfo and a safeexec.Settings. The result is a
	// safeexec.TreeResult, and the errors are those that do not follow from it.
	KillTree(target, settings any) (result any, errs []error)
}

// A Call is a command that is to be started.
type Call struct {
	Cmd      *exec.Cmd
	Deadline time.Time
	Settings any // a safeexec.Settings
}

// Errors are why a command was not started, in the order of precedence.
type Errors []error

func (e Errors) Error() string   { return e[0].Error() }
func (e Errors) Unwrap() []error { return e }

// A Program stands for a process.
type Program interface {
	// Live is its life, from the start to the exit, on a goroutine of its own.
	Live(stage Stage) End
	// Signal delivers a signal, and reports whether it does anything. It may be called at any time, also
	// after the end. Live returns soon after SIGKILL.
	Signal(sig syscall.Signal) bool
	// Report is why it does not go on: a *safeexec.Report or nil.
	Report() any
}

// A Stage is what a program has of its run.
type Stage struct {
	PID      int
	In       io.Reader // nil for none
	Out, Err io.Writer
	// End has the run end the program for a reason, a safeexec.Cause, as if its time had come.
	End func(cause int)
}

// An End is how a program ended.
type End struct {
	Status syscall.WaitStatus
	Change any // a func(*safeexec.Result), which adds to the result what the run cannot have seen

	Lost   bool  // another wait took the status
	Unseen bool  // the tree could not be looked at
	Limits error // why limits could not be set
	Redact error // why command lines are missing
}
