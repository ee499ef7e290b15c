//go:build unix && !linux

package testproc

import (
	"os/signal"
	"syscall"
)

type fd struct{ n int }

// inherited returns the descriptors that a test is likely to have passed on.
func inherited() []fd {
	var list []fd
	for n := range 16 {
		if syscall.Fstat(n, new(syscall.Stat_t)) == nil {
			list = append(list, fd{n})
		}
	}
	return list
}

// defaultAction makes Go die of the signal where it can.
func defaultAction(sig syscall.Signal) {
	signal.Reset(sig)
}
