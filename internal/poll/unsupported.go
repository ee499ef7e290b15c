//go:build !linux && !darwin && !freebsd && !openbsd && !netbsd

package poll

import "errors"

func fullTable(error) bool { return false }

func newPortable() (Poller, error) { return nil, errors.ErrUnsupported }
