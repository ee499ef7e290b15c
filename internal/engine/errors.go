package engine

import (
	"errors"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/fdtable"
)

// Why a command was not started. The root has the docs.
var (
	ErrUnsupported    = Sentinel("platform is not supported", errors.ErrUnsupported)
	ErrTooManyLeft    = Sentinel("too many output pipes are left to background processes", nil)
	ErrNoTerminal     = Sentinel("no controlling terminal", nil)
	ErrNotForeground  = Sentinel("not in the foreground of the terminal", nil)
	ErrBadDir         = Sentinel("working directory cannot be used", nil)
	ErrFDsUnknown     = Sentinel("inherited descriptors cannot be listed", nil)
	ErrProofRefused   = Sentinel("command cannot be stopped before it runs", nil)
	ErrProofPrivilege = Sentinel("program would run without its privilege", nil)
	ErrGuard          = Sentinel("the guard cannot be had", nil)
	ErrLimits         = Sentinel("limits cannot be set", nil)
	ErrStartStalled   = Sentinel("file system does not answer", nil)
)

// Sentinel returns an error to be matched, which also matches its older cousin if there is one.
func Sentinel(text string, older error) error { return &sentinel{text, older} }

type sentinel struct {
	text  string
	older error
}

func (s *sentinel) Error() string        { return "safeexec: " + s.text }
func (s *sentinel) Is(target error) bool { return s.older != nil && s.older == target }

// Errors are several, in the order of precedence.
type Errors []error

func (e Errors) Error() string   { return e[0].Error() }
func (e Errors) Unwrap() []error { return e }

// ErrCause stands for the errors of Facts.Cause, for which nothing was started.
var ErrCause = errors.New("the run was to end before it was started")

// A StartError is what the kernel or os/exec said about a start.
type StartError struct{ Err error }

func (e *StartError) Error() string { return e.Err.Error() }

// A ConfigError says which option or field of the command cannot be used.
type ConfigError struct{ Name, Reason string }

func (e *ConfigError) Error() string { return e.Name + " " + e.Reason }

// A LeakedFDsError lists descriptors that the command would have inherited undeclared.
type LeakedFDsError struct{ FDs []fdtable.FD }

func (*LeakedFDsError) Error() string { return "undeclared descriptors" }

// A ContainmentError says why a run cannot have the containment that it must have.
type ContainmentError struct {
	Cgroup, Controller string
	Errs               []error
}

func (e *ContainmentError) Error() string { return e.Errs[0].Error() }

func containmentError(errs ...error) error {
	e := &ContainmentError{Errs: errs}
	for _, err := range errs {
		if c, ok := errors.AsType[*cgroup.Error](err); ok {
			e.Cgroup, e.Controller = c.Dir, c.Controller
			break
		}
	}
	return e
}
