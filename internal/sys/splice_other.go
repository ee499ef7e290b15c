//go:build !linux

package sys

import "errors"

// OpenSink has no counterpart here.
func OpenSink() (int, error) { return -1, errors.ErrUnsupported }

// Splice has no counterpart here.
func Splice(from, to, n int) (int, error) { return 0, errors.ErrUnsupported }
