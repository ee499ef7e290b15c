package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/seed841d8200/safeexec"
)

// The reasons why a job was not started. Each comes in an [Error], and with [ErrNotStarted].
//
// When the group's context has ended, the reason is [safeexec.ErrCanceled] or [safeexec.ErrTimeout], and
// the context's error and cause match as well. ErrShutdown and ErrJobFailed are such causes: they also match
// the errors of the runs that they have ended.
var (
	// ErrNotStarted matches every job that a group did not start. A command that was to be started
	// and could not be has the error of [safeexec.Start] instead.
	ErrNotStarted error = &kind{text: "not started"}
	// ErrNotMade says that the group was not made by New.
	ErrNotMade error = &kind{text: "group was not made by New"}
	// ErrBusy says that a job with the same key runs or waits.
	ErrBusy error = &kind{text: "a job with this key runs or waits"}
	// ErrQueueFull says that as many jobs wait as QueueLimit allows.
	ErrQueueFull error = &kind{text: "queue is full"}
	// ErrQueueTimeout says that the job has waited for all of QueueTimeout. It matches
	// os.ErrDeadlineExceeded.
	ErrQueueTimeout error = &kind{"waited too long for its start", os.ErrDeadlineExceeded}
	// ErrShutdown says that Shutdown was called. It matches context.Canceled.
	ErrShutdown error = &kind{"group was shut down", context.Canceled}
	// ErrJobFailed says that another job has failed, with StopOnError. It matches context.Canceled.
	ErrJobFailed error = &kind{"another job failed", context.Canceled}
)

// A kind is a sentinel that also matches its older cousin.
type kind struct {
	text  string
	older error
}

func (k *kind) Error() string        { return "group: " + k.text }
func (k *kind) Is(target error) bool { return k.older != nil && k.older == target }

// An Error says why a job was never started. Like those of safeexec it carries neither arguments nor
// environment. Its causes, ErrNotStarted first, are reached with errors.Is and errors.As.
type Error struct {
	Program string // the last element of the program's path
	errs    []error
}

// Error names the program and the reasons.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "group: %q", e.Program)
	sep := " "
	for _, err := range e.errs {
		text := strings.TrimPrefix(err.Error(), "group: ")
		b.WriteString(sep + strings.TrimPrefix(text, "safeexec: "))
		sep = ": "
	}
	return b.String()
}

// Unwrap returns the causes.
func (e *Error) Unwrap() []error { return e.errs }

func notStarted(cmd *exec.Cmd, reason error) *Error {
	e := &Error{errs: []error{ErrNotStarted}}
	if cmd != nil {
		e.Program = filepath.Base(cmd.Path)
	}
	if over, ok := reason.(reasons); ok { //nolint:errorlint // our own, not wrapped
		e.errs = append(e.errs, over...)
	} else {
		e.errs = append(e.errs, reason)
	}
	return e
}

// reasons are several that are true at once.
type reasons []error

func (r reasons) Error() string { return errors.Join(r...).Error() }

// whyOver says why the group's context is done.
func (g *Group) whyOver() error {
	why := reasons{safeexec.ErrCanceled, g.ctx.Err()}
	if errors.Is(g.ctx.Err(), context.DeadlineExceeded) {
		why[0] = safeexec.ErrTimeout
	}
	if cause := context.Cause(g.ctx); cause != why[1] { //nolint:errorlint // the very value
		why = append(why, cause)
	}
	return why
}

// A ShutdownError lists what did not end. Jobs have not ended, but go on ending; or have ended and left
// Survivors. Err says why Shutdown did not wait longer: the cause of its context, or [ErrOverdue]; or
// [safeexec.ErrSurvivors] if all jobs have ended.
type ShutdownError struct {
	Jobs      []*Job
	Survivors []safeexec.ProcessInfo
	Err       error
}

// ErrOverdue says that a run has not ended within its bound. It matches os.ErrDeadlineExceeded.
var ErrOverdue error = &kind{"did not end within the bound", os.ErrDeadlineExceeded}

// Error counts the jobs and the processes.
func (e *ShutdownError) Error() string {
	return fmt.Sprintf("group: shutdown: %d jobs and %d processes are left: %v", len(e.Jobs), len(e.Survivors), e.Err)
}

// Unwrap returns Err.
func (e *ShutdownError) Unwrap() error { return e.Err }
