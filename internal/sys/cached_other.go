//go:build !linux

package sys

import "errors"

// LearnRoot has nothing to find out.
func LearnRoot() {}

// PeekCached is not to be had.
func PeekCached(string, []byte, int64) (int, error) { return 0, errors.ErrUnsupported }

// SearchableCached is not to be had.
func SearchableCached(string) error { return errors.ErrUnsupported }
