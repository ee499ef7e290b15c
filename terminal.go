package safeexec

import (
	"errors"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/terminal"
)

type terminalOption struct{}

func (terminalOption) apply(c *config) { c.terminal = true }

// WithTerminal runs an interactive command: an editor, a shell, a program that asks for a password. It
// stays in this session and leads a process group of its own that has the controlling terminal of
// this process, /dev/tty, until its tree has ended; then the terminal is taken back, however the run
// ended. Without a terminal the error is [ErrNoTerminal], and where this process is not in its
// foreground, or another run has it, [ErrNotForeground]; nothing has been started then.
//
// Streams are what [Run] makes of them, since programs that talk to the terminal may still have output
// to capture. An editor or shell needs all three set:
//
//	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
//
// Keys: Ctrl-C, Ctrl-\ and a changed window go to the command's group and not to this process. There is
// no job control: a command that is stopped by Ctrl-Z is continued at once, since nobody else could,
// and a stopped host would keep no timeout. One that was stopped by SIGSTOP stays so. While the command
// runs this process is in the background: reading from the terminal stops it, and so does writing
// after "stty tostop" (tty_ioctl(4), TIOCSPGRP). A terminal that hangs up sends SIGHUP to the session's
// leader alone; a program that wants to end the command then cancels the context.
//
// Modes of the terminal that the command changed stay, unless it was killed: if it died of a signal or
// was ended by the run they are as before, and where it had turned off the echo, what was typed and
// not read is discarded. A terminal that a shell gave to somebody else meanwhile is left alone. Where a process holds
// the terminal's locks for longer than a second the modes stay as they are: see [AbandonedTerminal].
//
// The tree is found with a weaker track, since the session is not the command's own: [TrackGroup] takes
// the place of [TrackSession], and every job of a shell is found by the others. The run takes one more
// thread.
// SysProcAttr.Setpgid and Foreground are what is done anyway; Setsid, Setctty, Noctty and Pgid are
// refused. On other systems than Linux it is [ErrUnsupported].
func WithTerminal() Option { return terminalOption{} }

// attributes returns those that the command is started with, and claims the terminal if it is to have
// it. The error says why nothing is started.
func (r *run) attributes() (*syscall.SysProcAttr, error) {
	attributes := proctree.SessionAttr
	if r.cfg.terminal && r.fake == nil {
		var err error
		r.terminal, err = terminal.Open()
		switch {
		case errors.Is(err, errors.ErrUnsupported):
			return nil, ErrUnsupported
		case errors.Is(err, terminal.ErrBackground):
			return nil, ErrNotForeground
		case errors.Is(err, terminal.ErrHeld):
			r.result.Abandoned = append(r.result.Abandoned, AbandonedTerminal)
			return nil, join(ErrNoTerminal, err)
		case err != nil:
			return nil, join(ErrNoTerminal, err)
		}
		attributes = r.terminal.Attr
	}
	attr, err := attributes(r.cmd.SysProcAttr)
	if err != nil {
		if r.terminal != nil {
			r.gaveBack(r.terminal.Close())
		}
		return nil, &ConfigError{Name: "SysProcAttr", Reason: err.Error()}
	}
	return attr, nil
}

// watchStops has observe told when a signal stopped the leader. The goroutine blocks a thread until the
// leader has exited; reap waits for it.
func (r *run) watchStops() {
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

// goOn continues a command that the terminal has stopped. One that does not have the terminal is left
// alone: it would be stopped again as soon as it reads.
func (r *run) goOn() {
	if r.terminal == nil {
		return
	}
	switch syscall.Signal(r.stopped.Swap(0)) {
	case proctree.SIGTSTP, proctree.SIGTTIN, proctree.SIGTTOU:
		if r.terminal.Has(r.result.PID) {
			_ = r.Tree.SignalGroup(proctree.SIGCONT) // the leader pins the number
		}
	}
}

// returnTerminal takes the terminal back. It comes before reap: the leader pins the number by which
// its group is told from somebody else's.
func (r *run) returnTerminal() {
	if r.terminal == nil {
		return
	}
	end := terminal.Exited
	if r.result.Cause != CauseExited || r.Signaled() || r.Tree.LeaderKilled() {
		end = terminal.Killed
	}
	r.gaveBack(r.terminal.TakeBack(end, r.leads))
}

// leads reports whether group belongs to the tree, as far as the tree still lives.
func (r *run) leads(group int) bool {
	if group == r.result.PID && r.Tree.Pinned() {
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

// abandonTerminal takes the terminal back from a start that failed: os/exec has reaped the child, so
// that its group is dead, or it was killed before it ran.
func (r *run) abandonTerminal() {
	if r.terminal == nil {
		return
	}
	r.gaveBack(r.terminal.TakeBack(terminal.Exited, func(group int) bool {
		return r.own != nil && r.own.Process != nil && r.own.Process.Pid == group
	}))
}

// gaveBack records that the terminal was closed, or is held and will be.
func (r *run) gaveBack(closed bool) { //nolint:revive // a fact, not a mode
	r.terminal = nil
	if !closed {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedTerminal)
	}
}
