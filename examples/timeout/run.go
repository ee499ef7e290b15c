//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
)

const (
	forever   = 100 * 365 * 24 * time.Hour // no timeout: safeexec insists on one
	lastGrace = time.Minute                // without -k
)

// run runs the command and returns the exit code, or ends this process as the command was ended.
func (req *request) run() int {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	p, err := req.start(req.command)
	if errors.Is(err, syscall.ENOEXEC) { // a script without "#!", which execvp(3) gives to the shell
		p, err = req.start(append([]string{"/bin/sh"}, req.command...))
	}
	if err != nil {
		return notStarted(req.command[0], err)
	}
	for {
		select {
		case sig := <-caught:
			req.forward(p, sig.(syscall.Signal))
		case <-p.Done():
			return req.ended(p.Wait())
		}
	}
}

func (req *request) start(command []string) (*safeexec.Process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if errors.Is(cmd.Err, exec.ErrDot) {
		cmd.Err = nil // a "." in PATH is there on purpose
	}
	term := req.signal
	if term == 0 {
		term = syscall.SIGCONT // which comes after any signal, and so does here as good as none
	}
	p, err := safeexec.Start(context.Background(), cmd,
		safeexec.WithTimeout(forever),
		safeexec.WithTermSignal(term),
		safeexec.WithGracePeriod(cmp.Or(req.killAfter, lastGrace)))
	if err == nil && req.timeout > 0 {
		_ = p.SetTimeout(req.timeout) // it counts once the command runs, or a busy machine would keep that from starting
	}
	return p, err
}

// forward does with a signal that came to us what -s, -k and -v say.
func (req *request) forward(p *safeexec.Process, sig syscall.Signal) {
	req.report(sig)
	if sig == req.signal {
		go func() { _, _ = p.Stop() }() // the very ladder of a timeout; run waits for it
		return
	}
	_ = p.Signal(sig)
	_ = p.Signal(syscall.SIGCONT) // or what is stopped would not hear of it
	if req.killAfter > 0 {
		time.AfterFunc(req.killAfter, func() { _ = p.Signal(syscall.SIGKILL) })
	}
}

func (req *request) report(sig syscall.Signal) {
	if req.verbose {
		complain("sending signal %s to command %s", nameOf(sig), quote(req.command[0]))
	}
}

func complain(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s: %s\n", os.Args[0], fmt.Sprintf(format, args...))
}
