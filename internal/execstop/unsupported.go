//go:build !linux

package execstop

import (
	"errors"
	"os/exec"
)

// A Stop is never made here.
type Stop struct{}

// Start is not to be had.
func Start(*exec.Cmd) (*Stop, error) { return nil, errors.ErrUnsupported }

func (*Stop) Stopped() (bool, error)        { return false, errors.ErrUnsupported }
func (*Stop) Exited() bool                  { return false }
func (*Stop) Release() error                { return errors.ErrUnsupported }
func (*Stop) Kill()                         {}
func (*Stop) Close()                        {}
func (*Stop) LosesPrivilege() (bool, error) { return false, errors.ErrUnsupported }
