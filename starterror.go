package safeexec

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// What a shell puts into $? for a program that it can not start.
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
