package engine

import (
	"errors"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/pty"
	"github.com/seed841d8200/safeexec/internal/terminal"
)

// A tty is the terminal that is lent to the command, if it is.
type tty struct{ *Run }

// attributes returns the attributes of the start, and claims the terminal if the command gets it. The error says why
// nothing is started.
func (r starter) attributes() (*syscall.SysProcAttr, error) {
	attributes := proctree.SessionAttr
	if r.cfg.Terminal && r.fake == nil {
		var err error
		r.terminal, err = terminal.Open()
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil, ErrUnsupported
		case errors.Is(err, terminal.ErrBackground):
			return nil, ErrNotForeground
		case errors.Is(err, terminal.ErrHeld):
			r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedTerminal)
			return nil, Errors{ErrNoTerminal, err}
		case err != nil:
			return nil, Errors{ErrNoTerminal, err}
		}
		attributes = r.terminal.Attr
	}
	attr, err := attributes(r.cmd.SysProcAttr)
	if err != nil {
		if r.terminal != nil {
			tty(r).gaveBack(r.terminal.Close())
		}
		return nil, &ConfigError{Name: "SysProcAttr", Reason: err.Error()}
	}
	return attr, r.controlPTY(attr)
}

// controlPTY makes standard output the controlling terminal of the command.
func (r starter) controlPTY(attr *syscall.SysProcAttr) error {
	if r.cfg.PTY == (Size{}) || r.fake != nil {
		return nil
	}
	err := pty.Attr(attr, 1)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return ErrUnsupported
	case err != nil:
		return &ConfigError{Name: "SysProcAttr", Reason: err.Error()}
	}
	return nil
}

// openPTY makes the terminal, if the run has one. A fake command has pipes.
func (r starter) openPTY() error {
	if r.cfg.PTY == (Size{}) || r.fake != nil {
		return nil
	}
	if err := r.Streams.OpenPTY(r.cfg.PTY, r.cmd); err != nil {
		return Errors{ErrNoTerminal, err}
	}
	return nil
}

// watchStops tells observe when a signal has stopped the leader. Its goroutine blocks a thread until the leader has
// exited; reap waits for it.
func (r tty) watchStops() {
	if r.terminal == nil {
		return
	}
	r.stops = make(chan struct{})
	go func() {
		defer close(r.stops)
		for {
			sig := r.Tree.WaitLeaderStopped()
			if sig == 0 {
				return
			}
			r.stopped.Store(int32(sig))
			r.Wake()
		}
	}()
}

// goOn continues a command that the terminal has stopped, unless it does not have the terminal: it would stop again at
// its next read.
func (r tty) goOn() {
	if r.terminal == nil {
		return
	}
	switch syscall.Signal(r.stopped.Swap(0)) {
	case proctree.SIGTSTP, proctree.SIGTTIN, proctree.SIGTTOU:
		if r.terminal.Has(r.Facts.PID) {
			_ = r.Tree.SignalGroup(proctree.SIGCONT) // the leader pins the number
		}
	}
}

// takeBack takes the terminal back. It comes before reap: the leader pins the number of its group.
func (r tty) takeBack() {
	if r.terminal == nil {
		return
	}
	end := terminal.Exited
	if r.Facts.Cause != CauseExited || r.Signaled() || r.Tree.LeaderKilled() {
		end = terminal.Killed
	}
	r.gaveBack(r.terminal.TakeBack(end, r.leads))
}

// leads reports whether a process of the tree is in group.
func (r tty) leads(group int) bool {
	if group == r.Facts.PID && r.Tree.Pinned() {
		return true
	}
	members, _ := r.Tree.Live()
	for _, m := range members {
		if proctree.Group(m) == group {
			return true
		}
	}
	return false
}

// abandon takes the terminal back from a start that failed: the child was reaped by os/exec, or killed before it ran.
func (r tty) abandon() {
	if r.terminal == nil {
		return
	}
	r.gaveBack(r.terminal.TakeBack(terminal.Exited, func(group int) bool {
		return r.own != nil && r.own.Process != nil && r.own.Process.Pid == group
	}))
}

// gaveBack records that the terminal was closed, or will be once a process lets go of it.
func (r tty) gaveBack(closed bool) { //nolint:revive // a fact, not a mode
	r.terminal = nil
	if !closed {
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedTerminal)
	}
}
