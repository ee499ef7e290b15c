//go:build !unix

package seam

import (
	"errors"
	"os"
	"syscall"
)

// State has no use here: no run gets so far.
func State(int, syscall.WaitStatus) (*os.ProcessState, error) { return nil, errors.ErrUnsupported }

// Exited is the zero status.
func Exited(int) syscall.WaitStatus { return syscall.WaitStatus{} }

// Signaled is the zero status.
func Signaled(syscall.Signal) syscall.WaitStatus { return syscall.WaitStatus{} }
