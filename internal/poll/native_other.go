//go:build !linux

package poll

import "errors"

func newNative() (Poller, error) { return nil, errors.ErrUnsupported }
