package safeexec_test

import (
	"os"
	"os/signal"
	"syscall"
)

// ignoreChildren has the kernel reap this process's children, until restoreChildren.
func ignoreChildren() { signal.Ignore(syscall.SIGCHLD) }

// restoreChildren goes by way of a handler: signal.Reset leaves SIGCHLD ignored.
func restoreChildren() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGCHLD)
	signal.Stop(c)
}
