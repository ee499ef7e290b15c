//go:build !linux

package fdtable

import (
	"errors"
	"os"
)

// Seal does nothing: what Go opens is close-on-exec, and nothing else is looked at here.
func Seal() Found { return Found{} }

// Survey is not to be had.
func Survey([]string) Found { return Found{Err: errors.ErrUnsupported} }

// Audit is not to be had.
func Audit() ([]FD, error) { return nil, errors.ErrUnsupported }

// Stdio finds nothing.
func Stdio() []StdioFinding { return nil }

// Declared finds nothing.
func Declared([]string) (handed, withheld []int) { return nil, nil }

// Pass is not to be had.
func Pass([]int, []int, []*os.File) (all, opened []*os.File, err error) {
	return nil, nil, errors.ErrUnsupported
}

// Undeclared is not to be had.
func Undeclared(int, []bool, []int, []string) ([]FD, error) { return nil, errors.ErrUnsupported }
