package job

import (
	"errors"
	"fmt"

	"github.com/seed841d8200/safeexec"
)

// The errors of jobs, beside those of package safeexec: [safeexec.ErrNoTimeout],
// [safeexec.ErrUnsupported], [safeexec.ConfigError], [safeexec.ErrLimits],
// [safeexec.ErrStartStalled], [safeexec.ErrNoProcess], [safeexec.ErrProtected],
// [safeexec.ErrSurvivors] and [safeexec.ErrTreeUnseen]. If a program cannot be executed, the error
// is that of os/exec.
var (
	// ErrRunning says that a job of that name runs, or that it cannot be told whether it does.
	ErrRunning = errors.New("job is running")
	// ErrNoJob says that the store has no job of that name.
	ErrNoJob = errors.New("no such job")
	// ErrClosed says that the store is closed.
	ErrClosed = errors.New("store is closed")
	// ErrUnsafe says that the directory of the store belongs to another user, or that others may
	// write to it.
	ErrUnsafe = errors.New("directory is not private")
	// ErrBusy says that another program, or goroutine, works on the record and does not end.
	ErrBusy = errors.New("record is locked by another")
	// ErrRecord says that a record cannot be read, or is of another version. Nothing is done about
	// its job.
	ErrRecord = errors.New("record cannot be read")
	// ErrElsewhere says that the job was started in another namespace of PIDs or time. Its numbers
	// mean nothing here.
	ErrElsewhere = errors.New("job belongs to another namespace")
	// ErrNotReady says that the job was not ready in time.
	ErrNotReady = errors.New("job is not ready")
	// ErrEnded says that the job ended, or its first process before it was ready.
	ErrEnded = errors.New("job has ended")
	// ErrNoInput says that the job was not started with [Input].
	ErrNoInput = errors.New("job has no input")
	// ErrPortTaken says that another process listened on the port before the start, so that a
	// connection to it would prove nothing.
	ErrPortTaken = errors.New("port is in use")
	// ErrHolder says that the process of [KeepStatus] could not be started, or died meanwhile. Nothing runs.
	ErrHolder = errors.New("holder of the exit status could not be started")
	// ErrLogBound says that the file system of the store cannot bound a log: it has no holes
	// (fallocate(2), FALLOC_FL_PUNCH_HOLE).
	ErrLogBound = errors.New("file system cannot bound the log")
)

// An Error says what failed on which job. It holds no argument and no environment.
type Error struct {
	Op  string // "start", "stop" …
	Job string
	Err error
}

func (e *Error) Error() string { return fmt.Sprintf("%s job %s: %v", e.Op, e.Job, e.Err) }

func (e *Error) Unwrap() error { return e.Err }

// A ReadyError says why a job is not ready. It matches [ErrNotReady]; [ErrEnded] as well if it has
// ended, the context's error if that is why it is no longer waited for.
type ReadyError struct {
	Cause   error            // ErrEnded, the context's error, or nil: the time is up
	Last    []Line           // the last lines of the log
	Report  *safeexec.Report // what the job is blocked in; nil if it has ended or cannot be looked at
	Stopped bool             // the job was stopped for it, see [StopUnready]
}

func (e *ReadyError) Error() string {
	text := ErrNotReady.Error()
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	if e.Report != nil && e.Report.Verdict != "" {
		text += ": " + e.Report.Verdict
	}
	if n := len(e.Last); n > 0 {
		text += fmt.Sprintf(": last line of its log: %q", e.Last[n-1].Text)
	}
	return text
}

func (e *ReadyError) Unwrap() []error {
	if e.Cause == nil {
		return []error{ErrNotReady}
	}
	return []error{ErrNotReady, e.Cause}
}

func wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Op: op, Job: name, Err: err}
}
