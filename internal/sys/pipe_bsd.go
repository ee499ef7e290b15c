//go:build darwin || freebsd || openbsd || netbsd

package sys

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// Pipe makes a pipe, close-on-exec at both ends. Not every kernel here has pipe2, so a fork is
// kept out between the two steps.
func Pipe() (r, w int, err error) {
	var p [2]int
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := unix.Pipe(p[:]); err != nil {
		return -1, -1, err
	}
	unix.CloseOnExec(p[0])
	unix.CloseOnExec(p[1])
	return p[0], p[1], nil
}

// GrowPipe is for Linux: there is no F_SETPIPE_SZ.
func GrowPipe(int, int) (int, error) { return 0, errors.ErrUnsupported }

// SetPipeSize is for Linux as well.
func SetPipeSize(int, int) error { return errors.ErrUnsupported }

// NonblockPipe sets O_NONBLOCK on an end of a new pipe.
func NonblockPipe(fd int) error { return SetNonblock(fd) }
