//go:build !linux

package execstop

import "errors"

// DieWithUs is not to be had.
func (*Stop) DieWithUs() error { return errors.ErrUnsupported }
