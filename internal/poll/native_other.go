//go:build !linux

package poll

import "errors"

func newNative() (Poller, error) { return nil, errors.ErrUnsupported }

// CloseIdle closes what is kept for reuse: nothing.
func CloseIdle() {}

// Crowded is for those who could wait without a Poller for a moment, which nobody can here.
func Crowded() bool { return true }
