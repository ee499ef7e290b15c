package safeexec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// The errors of a run. Each matches itself and, so that code written for os/exec and context goes
// on working, the older error named beside it.
//
// Several can be true at once, and then all of them match. The text names them in the order of this
// list, which is their precedence:
//
//	ErrNoTimeout, ErrStarted, ErrUnsupported, ErrNoTerminal, ErrNotForeground, *ConfigError
//	                     refused, nothing was started
//	ErrTooManyLeft       no room for the pipes that it might leave, nothing was started
//	ErrNoProcess, ErrProtected   refused by KillTree, nothing was signaled
//	ErrNotFound, ErrNotExecutable, ErrBadDir, *ArgumentError  could not be started
//	ErrLeakedFDs (*LeakedFDsError), ErrFDsUnknown, ErrProofRefused, ErrProofPrivilege
//	                     was not started, or killed before it ran
//	ErrContainment (*ContainmentError)  the containment asked for cannot be had
//	ErrGuard             the guard could not be started
//	ErrLimits            limits could not be set
//	ErrTimeout, ErrCanceled, ErrIdle, ErrOutputLimit, ErrStopped   why the run was ended
//	ErrStartStalled      the start was met by the timeout
//	ErrOOMKilled         the kernel killed the command for want of memory
//	*exec.ExitError      the command's own status
//	ErrStatusUnknown     ... which other code took
//	ErrPipeHeld          output may be incomplete
//	ErrWriterStuck, ErrReaderStuck, ErrWriterFailed and the Writer's error, the Reader's error
//	ErrSurvivors, ErrTreeUnseen   processes are left, or may be
//	*RedactError         command lines are missing from the report
var (
	// ErrNoTimeout says that neither the context nor an option bounds the run.
	ErrNoTimeout error = engine.Sentinel("no timeout: set WithTimeout or a context deadline", nil)
	// ErrStarted says that the command was started before, or that a start of it failed: as with
	// os/exec it takes a new Cmd then.
	ErrStarted error = engine.Sentinel("already started", nil)
	// ErrUnsupported says that this platform cannot run commands this way. It matches
	// errors.ErrUnsupported.
	ErrUnsupported error = engine.ErrUnsupported

	// ErrTooManyLeft says that a command was not started with [BackgroundLeave]: as many pipes as
	// [MaxLeftPipes] are left, or may be by runs under way, or there was no descriptor to wait with.
	ErrTooManyLeft error = engine.ErrTooManyLeft
	// ErrNoTerminal says that this process has no controlling terminal to lend, or with [WithPTY] that no
	// pseudo-terminal can be had. It matches the kernel's error.
	ErrNoTerminal error = engine.ErrNoTerminal
	// ErrNotForeground says that another process group has the terminal: a job of the shell's, or the
	// command of another run.
	ErrNotForeground error = engine.ErrNotForeground
	// ErrNoProcess says that the target of KillTree is dead or another process. It matches
	// os.ErrProcessDone.
	ErrNoProcess error = engine.Sentinel("no such process", os.ErrProcessDone)
	// ErrProtected says that the target of KillTree must not be ended: the first process, this one, one
	// that it descends from, or a thread of the kernel.
	ErrProtected error = engine.Sentinel("process must not be ended", nil)

	// ErrNotFound says that there is no such program. It matches exec.ErrNotFound.
	ErrNotFound error = engine.Sentinel("program not found", exec.ErrNotFound)
	// ErrNotExecutable says that the program is there and cannot be executed.
	ErrNotExecutable error = engine.Sentinel("program cannot be executed", nil)
	// ErrBadDir says that the command's Dir is not there, is not a directory or may not be entered.
	ErrBadDir error = engine.ErrBadDir

	// ErrLeakedFDs says that the command would have inherited undeclared descriptors. The error that
	// matches it is a *LeakedFDsError, which lists them.
	ErrLeakedFDs error = engine.Sentinel("undeclared descriptors would be inherited", nil)
	// ErrFDsUnknown says that Run could not find out what the command would inherit.
	ErrFDsUnknown error = engine.ErrFDsUnknown
	// ErrProofRefused says that the command cannot be stopped, to prove what it inherits or to be marked.
	ErrProofRefused error = engine.ErrProofRefused
	// ErrProofPrivilege says that the program would lose its set-user-ID, set-group-ID or file
	// capabilities by being stopped, or that this cannot be told.
	ErrProofPrivilege error = engine.ErrProofPrivilege
	// ErrContainment says that the containment asked for cannot be had, see [WithContainment]. The
	// error that matches it is a *ContainmentError, which says why.
	ErrContainment error = engine.Sentinel("containment cannot be had", nil)
	// ErrGuard says that the helper of [WithGuard] cannot be started, or not be told of the run. Nothing was started.
	ErrGuard error = engine.ErrGuard
	// ErrLimits says that limits or the nice value could not be set.
	ErrLimits error = engine.ErrLimits

	// ErrTimeout says that the timeout or the context's deadline passed. It matches
	// context.DeadlineExceeded.
	ErrTimeout error = engine.Sentinel("timed out", context.DeadlineExceeded)
	// ErrCanceled says that the context was canceled. It matches context.Canceled.
	ErrCanceled error = engine.Sentinel("canceled", context.Canceled)
	// ErrIdle says that no output came for the time given to WithIdleTimeout. It matches
	// os.ErrDeadlineExceeded.
	ErrIdle error = engine.Sentinel("no output for too long", os.ErrDeadlineExceeded)
	// ErrOutputLimit says that more output came than the limit allows: always with
	// OverflowStop, and from Output and CombinedOutput, which cannot tell otherwise that what
	// they return is incomplete.
	ErrOutputLimit error = engine.Sentinel("output limit exceeded", nil)
	// ErrStopped says that Process.Stop, Process.Kill or StopAll ended the run.
	ErrStopped error = engine.Sentinel("stopped", nil)
	// ErrStartStalled says that Dir or the program's file did not answer, so that nothing was
	// started.
	ErrStartStalled error = engine.ErrStartStalled

	// ErrOOMKilled says that the command failed and that the kernel killed it, or some of its tree,
	// for want of memory, within the limit of [WithMemoryMax] or on the machine. It can be told of a
	// command in a cgroup with the memory controller.
	ErrOOMKilled error = engine.Sentinel("killed for want of memory", nil)
	// ErrStatusUnknown says that the command ended and its status was lost: other code waited for
	// it, or SIGCHLD is ignored.
	ErrStatusUnknown error = engine.Sentinel("exit status was taken by somebody else", nil)
	// ErrPipeHeld says that a process outside the tree still holds an output pipe, so that more
	// output might have come. It matches exec.ErrWaitDelay.
	ErrPipeHeld error = engine.Sentinel("output pipe is held by another process", exec.ErrWaitDelay)
	// ErrWriterStuck says that the caller's Writer did not return and was left behind. It matches
	// exec.ErrWaitDelay.
	ErrWriterStuck error = engine.Sentinel("writer does not return", exec.ErrWaitDelay)
	// ErrReaderStuck says that the caller's Reader did not return and was left behind. It matches
	// exec.ErrWaitDelay.
	ErrReaderStuck error = engine.Sentinel("reader does not return", exec.ErrWaitDelay)
	// ErrWriterFailed says that the caller's Writer returned an error, which matches as well, or that the
	// function of [WithLines] panicked. What came after it was not delivered; see [WithStopOnWriteError].
	ErrWriterFailed error = engine.Sentinel("writer failed", nil)
	// ErrTreeUnseen says that the processes of the tree could not be looked for, for want of
	// descriptors perhaps, so that some may be left.
	ErrTreeUnseen error = engine.Sentinel("process tree could not be looked at", nil)
	// ErrSurvivors says that processes of the tree are alive after SIGKILL and its bound.
	ErrSurvivors error = engine.Sentinel("processes survived", nil)
)

// An Error says what went wrong with a run. It carries neither arguments nor environment, which may
// be secret. Its causes are reached with errors.Is and errors.As.
//
// A command that merely failed gives no Error but the plain *exec.ExitError, as os/exec does.
type Error struct {
	Op      string // "start", "run", "killtree" or "stopall"
	Program string // the last element of the program's path; for KillTree the target's name
	PID     int    // 0 if nothing was started
	// Report is that of the [Result]: why the command was stuck; nil if there is none.
	Report *Report
	// Result is what is known of a start that failed, also where [Start] returns no [Process]; else nil.
	Result *Result
	errs   []error
}

// Error names the program, its PID and every cause, in the order of precedence, and then the verdict
// of the report, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Op)
	if e.Program != "" {
		b.WriteByte(' ')
		b.WriteString(oneLine(plain(e.Program)))
	}
	if e.PID != 0 {
		fmt.Fprintf(&b, " (pid %d)", e.PID)
	}
	for i, err := range e.errs {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		b.WriteString(sep)
		b.WriteString(oneLine(strings.TrimPrefix(err.Error(), "safeexec: ")))
	}
	if e.Report != nil {
		b.WriteString("; why: ")
		b.WriteString(oneLine(e.Report.Verdict))
	}
	return b.String()
}

// LogValue is the error as a group: op, command and pid, as far as there are any, and error, which is what Error
// returns.
func (e *Error) LogValue() slog.Value {
	attrs := append(make([]slog.Attr, 0, 4), slog.String("op", e.Op))
	if e.Program != "" {
		attrs = append(attrs, slog.String("command", e.Program))
	}
	if e.PID != 0 {
		attrs = append(attrs, slog.Int("pid", e.PID))
	}
	return slog.GroupValue(append(attrs, slog.String("error", e.Error()))...)
}

// oneLine escapes what does not print: a path may hold a newline, or orders to a terminal.
func oneLine(s string) string {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Unwrap returns the causes in the order of precedence.
func (e *Error) Unwrap() []error { return e.errs }

// Retryable reports whether the same command may succeed if it is run again a little later, and was not started, so
// that nothing is done twice: the machine has no process, descriptor or memory for it at the moment, its program was
// being written, a file system did not answer, or too many pipes are left. A timeout is for the caller to judge: part
// of the work may have been done.
func Retryable(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Op != "start" {
		return false
	}
	for _, transient := range []error{
		ErrStartStalled, ErrTooManyLeft, syscall.EAGAIN, syscall.ETXTBSY, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
	} {
		if errors.Is(err, transient) {
			return !errors.Is(err, ErrCanceled)
		}
	}
	return false
}

// A ConfigError says that an option, the context or a field of the command cannot be used, alone or
// with the others. Nothing was started.
type ConfigError struct {
	Name   string // the option, or the field of exec.Cmd
	Reason string
}

func (e *ConfigError) Error() string { return "safeexec: " + e.Name + " " + e.Reason }

// An ArgumentError says which string of the command line or the environment the kernel refuses. It
// does not contain the string. Nothing was started.
type ArgumentError struct {
	Env   bool  // the string is in the environment, not in Args
	Index int   // in Args or Env
	Size  int   // of the string, in bytes, with the terminating NUL
	Total int   // of all strings, in bytes
	Err   error // syscall.E2BIG: too long, alone or all together; syscall.EINVAL: it contains a NUL
}

func (e *ArgumentError) Error() string {
	list := "Args"
	if e.Env {
		list = "Env"
	}
	if errors.Is(e.Err, syscall.EINVAL) {
		return fmt.Sprintf("safeexec: %s[%d] contains a NUL byte", list, e.Index)
	}
	return fmt.Sprintf("safeexec: %s[%d] has %d bytes, all strings have %d: %v", list, e.Index, e.Size, e.Total, e.Err)
}

// Unwrap returns the kernel's error.
func (e *ArgumentError) Unwrap() error { return e.Err }

// What a shell puts into $? for a program that it cannot start.
const (
	shellNotExecutable = 126
	shellNotFound      = 127
)

// startError names what the kernel or os/exec said about a start.
func (r *run) startError(err error) error {
	switch {
	case err.Error() == "exec: already started": // os/exec has no name for it
		return ErrStarted
	case errors.Is(err, syscall.E2BIG):
		r.result.refusal = shellNotExecutable
		return r.longestArgument()
	case r.cmd.Path == "", errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		r.result.refusal = shellNotFound
		if r.life.Facts.Missing != "" && errors.Is(err, fs.ErrNotExist) {
			return &InterpreterError{Path: r.life.Facts.Missing, Err: err}
		}
		return join(ErrNotFound, err)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC), errors.Is(err, syscall.ENOTDIR),
		errors.Is(err, exec.ErrDot), errors.Is(err, syscall.EISDIR), errors.Is(err, syscall.ELOOP):
		r.result.refusal = shellNotExecutable
		return join(ErrNotExecutable, err)
	}
	// os/exec refuses a NUL with EINVAL, or with an error that has no name.
	if arg := r.argumentWithNUL(); arg != nil {
		return arg
	}
	return err
}

// An InterpreterError says that a program is there and the interpreter that it names is not: that of its
// #! line, or the dynamic linker of an ELF program. It matches [ErrNotFound] and [fs.ErrNotExist].
type InterpreterError struct {
	Path string // as the program says it: of a script with Windows line ends it ends with a carriage return
	Err  error  // what os/exec said
}

// Error names the interpreter.
func (e *InterpreterError) Error() string { return fmt.Sprintf("interpreter %q not found", e.Path) }

// Is reports whether target is ErrNotFound or its older cousin.
func (e *InterpreterError) Is(target error) bool {
	return target == ErrNotFound || target == exec.ErrNotFound
}

// Unwrap returns Err.
func (e *InterpreterError) Unwrap() error { return e.Err }

// longestArgument names the longest of the strings that are too long, alone or together.
func (r *run) longestArgument() *ArgumentError {
	longest := &ArgumentError{Err: syscall.E2BIG}
	r.eachArgument(func(a ArgumentError, _ string) {
		longest.Total = a.Total
		if a.Size > longest.Size {
			longest.Env, longest.Index, longest.Size = a.Env, a.Index, a.Size
		}
	})
	return longest
}

// argumentWithNUL names the first string with a NUL, nil if there is none.
func (r *run) argumentWithNUL() *ArgumentError {
	var found *ArgumentError
	r.eachArgument(func(a ArgumentError, s string) {
		if found == nil && strings.IndexByte(s, 0) >= 0 {
			found = &ArgumentError{Env: a.Env, Index: a.Index, Size: a.Size, Err: syscall.EINVAL}
		}
		if found != nil {
			found.Total = a.Total
		}
	})
	return found
}

// eachArgument calls f with each string that the command is to get, and with the sum of the sizes so far.
func (r *run) eachArgument(f func(a ArgumentError, s string)) {
	env := r.cmd.Env
	if env == nil {
		env = os.Environ()
	}
	total := 0
	for _, list := range []struct {
		strings []string
		env     bool
	}{{r.cmd.Args, false}, {env, true}} {
		for i, s := range list.strings {
			total += len(s) + 1
			f(ArgumentError{Env: list.env, Index: i, Size: len(s) + 1, Total: total}, s)
		}
	}
}

// programName is how errors name a command: by the last element of its path.
func programName(cmd *exec.Cmd) string {
	if cmd == nil {
		return ""
	}
	path := cmd.Path
	if path == "" && len(cmd.Args) > 0 {
		path = cmd.Args[0]
	}
	if path == "" {
		return ""
	}
	return filepath.Base(path)
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
