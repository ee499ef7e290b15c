//go:build !linux

package poll

import "errors"

func newNative() (Poller, error) { return nil, errors.ErrUnsupported }

// CloseIdle closes what is kept for reuse: nothing.
func CloseIdle() {}
