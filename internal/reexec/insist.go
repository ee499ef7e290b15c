package reexec

import (
	"errors"
	"slices"
	"syscall"
	"time"
)

// insistBound is for how long a start is tried again that fails for want of a process, of memory or of descriptors.
const insistBound = time.Second

// wants are the errors that usually pass.
var wants = []error{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE}

// The pauses between two tries.
const (
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// Insist calls f until it fails for no want, but not for long.
func Insist(f func() error) error {
	until := time.Now().Add(insistBound)
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f()
		passes := slices.ContainsFunc(wants, func(want error) bool { return errors.Is(err, want) })
		if !passes || !time.Now().Before(until) {
			return err
		}
		time.Sleep(pause)
	}
}
