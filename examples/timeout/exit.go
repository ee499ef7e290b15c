//go:build linux

package main

import (
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
)

// The exit codes of timeout itself; any other is the command's.
const (
	exitTimedOut = 124 + iota
	exitFailed
	exitCannotRun
	exitNotFound
)

// notStarted returns the exit code where there is no process to take it from.
func notStarted(command string, err error) int {
	errno := syscall.ENOENT // not in PATH, or no name at all: there was no system call to fail
	errors.As(err, &errno)
	reason := errno.Error()
	complain("failed to run command %s: %s", quote(command), strings.ToUpper(reason[:1])+reason[1:])
	switch errno {
	case syscall.ENOENT:
		return exitNotFound
	case syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE:
		return exitFailed
	default:
		return exitCannotRun
	}
}

// ended returns the exit code that says how the command ended.
func (req *request) ended(res safeexec.Result, _ error) int {
	timedOut := res.Cause == safeexec.CauseTimeout
	killed := res.Signal == syscall.SIGKILL
	if timedOut {
		req.report(req.signal)
		if killed && res.SignaledBy == safeexec.SignalerSafeexec && req.signal != syscall.SIGKILL {
			req.report(syscall.SIGKILL)
		}
	}
	if res.CoreDumped {
		complain("the monitored command dumped core")
	}
	for _, p := range res.Survivors {
		complain("cannot end %s, pid %d", p.Name, p.PID)
	}
	switch {
	case timedOut && !req.preserve && !killed:
		return exitTimedOut
	case !timedOut && res.Signal != 0:
		die(res.Signal)
	}
	if code := res.ShellCode(); code >= 0 {
		return code
	}
	return exitFailed
}

// die ends us by the signal that ended the command, as far as a Go program can: a shell that runs a
// script gives up on SIGINT only if the command died of it. Otherwise it returns.
func die(sig syscall.Signal) {
	switch sig {
	case syscall.SIGHUP, syscall.SIGINT, syscall.SIGKILL, syscall.SIGTERM:
		signal.Reset(sig)
		if self, err := os.FindProcess(os.Getpid()); err == nil && self.Signal(sig) == nil {
			time.Sleep(time.Second) // it comes at once, unless we were told to ignore it
		}
	}
}
