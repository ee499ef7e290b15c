// Package exec has the names of os/exec, and its commands run through safeexec.
//
// It exists for one purpose: .ci/osexec copies Go's own tests of os/exec from the installed
// toolchain to a temporary directory, has them import this package in place of os/exec, and runs
// them. How many of them notice is the measure of how much of a drop-in safeexec is.
//
// The adapter is thin on purpose, because whatever it repairs is not measured. Cmd is os/exec's
// own struct under another name, so that a command is converted and never copied, and only the
// methods that start a command or wait for it are replaced. With the build tag baseline they are
// os/exec's again: what fails then is a defect of the adapter or of the machine, and never a
// difference of safeexec.
package exec

import (
	"context"
	"io"
	"os/exec"
)

// Cmd is exec.Cmd with other methods. Both have the same underlying type, so that a *Cmd becomes
// an *exec.Cmd by a conversion.
type Cmd exec.Cmd

// Error is exec.Error.
type Error = exec.Error

// ExitError is exec.ExitError.
type ExitError = exec.ExitError

// The errors of os/exec.
var (
	ErrDot       = exec.ErrDot
	ErrNotFound  = exec.ErrNotFound
	ErrWaitDelay = exec.ErrWaitDelay
)

// LookPath is exec.LookPath.
func LookPath(file string) (string, error) { return exec.LookPath(file) }

// Command is exec.Command.
func Command(name string, arg ...string) *Cmd { return (*Cmd)(exec.Command(name, arg...)) }

// CommandContext is exec.CommandContext.
func CommandContext(ctx context.Context, name string, arg ...string) *Cmd {
	return (*Cmd)(exec.CommandContext(ctx, name, arg...))
}

func (c *Cmd) std() *exec.Cmd { return (*exec.Cmd)(c) }

// String is os/exec's.
func (c *Cmd) String() string { return c.std().String() }

// Environ is os/exec's.
func (c *Cmd) Environ() []string { return c.std().Environ() }

// StdinPipe is os/exec's.
func (c *Cmd) StdinPipe() (io.WriteCloser, error) { return c.std().StdinPipe() }

// StdoutPipe is os/exec's.
func (c *Cmd) StdoutPipe() (io.ReadCloser, error) { return c.std().StdoutPipe() }

// StderrPipe is os/exec's.
func (c *Cmd) StderrPipe() (io.ReadCloser, error) { return c.std().StderrPipe() }
