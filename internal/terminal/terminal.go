// Package terminal lends the controlling terminal of this process to a command and takes it back.
//
// To have a terminal is to be its foreground process group: only that group may read from it, and
// only that group gets the signals of Ctrl-C, Ctrl-\, Ctrl-Z and of a changed window. The command
// leads a group of its own and makes it the foreground group between its fork and its execve, which
// SysProcAttr.Foreground does. What can happen around that, and why each case ends the same way:
//
//   - Two commands are to get the terminal at once. A process has at most one controlling terminal,
//     so one claim for all of this process is enough: the second is refused. Another process of our
//     own group could lend it in the microseconds between our question and our command's own
//     request; it is then taken from that command, which stops when it reads.
//   - The start fails after the child has made itself the foreground group: the group has no member
//     any more, and the terminal is taken back as at any other end.
//   - The command makes another group the foreground, as job-control shells do, and dies. The group
//     is dead, or one of the command's tree, and the terminal is taken back.
//   - A shell above us takes the terminal, because SIGSTOP stopped us, and gives it to its next job. That
//     group lives and is not the command's: the terminal is left to it.
//   - The terminal hangs up. There is none to take back any more; every call says so.
//   - A process holds the terminal's locks. One that changes the line discipline (TIOCSETD) waits seconds for a
//     reader, and all others wait for it. Asking for the foreground group and setting it takes none of them; a
//     goroutine that is left behind after [Bound] makes all other calls.
package terminal

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// What Open refuses.
var (
	ErrNone       = errors.New("this process has no controlling terminal")
	ErrBackground = errors.New("another process group has the terminal")
	ErrHeld       = errors.New("the terminal does not answer")
)

// Bound is how long Open, TakeBack and Close take at most. A goroutine that is left behind then has the
// terminal until it is answered.
const Bound = time.Second

// A Terminal is the controlling terminal of this process, while it may be lent.
type Terminal struct {
	fd    int
	own   int               // our group, which had it
	modes sys.TerminalModes // when it was opened
}

// claimed is whether there is a Terminal that was not closed.
var claimed atomic.Bool

// Open claims the terminal, and reads its modes. Unless there is an error, TakeBack or Close gives up the claim.
func Open() (*Terminal, error) {
	if !claimed.CompareAndSwap(false, true) {
		return nil, ErrBackground
	}
	t := &Terminal{own: sys.OwnGroup()}
	opened := make(chan error, 1)
	go func() { opened <- t.open() }()
	late := time.NewTimer(Bound)
	defer late.Stop()
	select {
	case err := <-opened:
		if err != nil {
			claimed.Store(false)
			return nil, err
		}
		return t, nil
	case <-late.C:
		go func() {
			if <-opened == nil {
				sys.Close(t.fd)
			}
			claimed.Store(false)
		}()
		return nil, ErrHeld
	}
}

func (t *Terminal) open() error {
	fd, err := sys.OpenTerminal()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return err
	case err != nil:
		return fmt.Errorf("%w: /dev/tty: %w", ErrNone, err)
	}
	t.fd = fd
	group, err := sys.ForegroundGroup(fd)
	if err == nil {
		t.modes, err = sys.GetTerminalModes(fd)
	}
	switch {
	case err != nil: // it hung up
		err = fmt.Errorf("%w: %w", ErrNone, err)
	case group != t.own:
		err = ErrBackground
	default:
		return nil
	}
	sys.Close(fd)
	return err
}

// Close gives up the claim. It does not take the terminal back. False says that a process holds the terminal, and
// that a goroutine closes it later.
func (t *Terminal) Close() bool { return t.release(func(func() bool) {}) }

// release closes the terminal after last, whose calls a process can hold up. Once left reports true, last
// is to change nothing any more.
func (t *Terminal) release(last func(left func() bool)) bool {
	var left atomic.Bool
	over := make(chan struct{})
	go func() {
		last(left.Load)
		sys.Close(t.fd)
		claimed.Store(false)
		close(over)
	}()
	late := time.NewTimer(Bound)
	defer late.Stop()
	select {
	case <-over:
		return true
	case <-late.C:
		left.Store(true)
		return false
	}
}

// Attr returns a copy of attr whose process takes the terminal. The error names what in attr conflicts
// with that.
func (t *Terminal) Attr(attr *syscall.SysProcAttr) (*syscall.SysProcAttr, error) {
	if sys.Traced(attr) {
		return nil, errors.New("has Ptrace set: the command would stop before its first instruction")
	}
	own, ok := sys.NewForeground(attr, t.fd)
	if !ok {
		return nil, errors.New("asks for another session, process group or terminal; " +
			"the command leads a group of its own in this session")
	}
	return own, nil
}

// Has reports whether group is the foreground group.
func (t *Terminal) Has(group int) bool {
	now, err := sys.ForegroundGroup(t.fd)
	return err == nil && now == group
}

// An End says how the command that had the terminal ended.
type End int

// The ends.
const (
	Exited End = iota // by itself, and the modes are as it wants them
	Killed            // without the chance to restore the modes
)

// TakeBack makes our group the foreground group again, unless a group has the terminal that lives and
// is not the command's, and closes the terminal, like Close. After a command that was killed the modes are those
// that Open read, as shells do it, and where it had turned off the echo, a password prompt perhaps, what was
// typed for it is discarded: the next program would get it, and show it.
func (t *Terminal) TakeBack(end End, theirs func(group int) bool) bool {
	now, err := sys.ForegroundGroup(t.fd)
	if err != nil || now != t.own && !theirs(now) && alive(now) {
		return t.Close()
	}
	if now != t.own {
		// We are in the background: SIGTTOU stops a process that touches the terminal from there.
		_ = sys.WithSignalsBlocked(func() { err = sys.SetForegroundGroup(t.fd, t.own) })
	}
	if end == Exited || err != nil {
		return t.Close()
	}
	return t.release(func(left func() bool) {
		_ = sys.WithSignalsBlocked(func() { t.restore(left) })
	})
}

func (t *Terminal) restore(left func() bool) {
	modes, err := sys.GetTerminalModes(t.fd)
	if err != nil || modes == t.modes || left() {
		return
	}
	if sys.Echoes(t.modes) && !sys.Echoes(modes) {
		_ = sys.DiscardInput(t.fd)
	}
	if !left() {
		_ = sys.SetTerminalModes(t.fd, t.modes)
	}
}

// alive reports whether the group has a living member. Zombies do not count: there may be no process that
// reaps them. If alive cannot tell, it reports true.
func alive(group int) bool {
	if group <= 1 {
		return true // in another PID namespace
	}
	if sys.Gone(sys.Kill(-group, 0)) { // signal 0: none is sent
		return false
	}
	found, err := procfs.PIDs()
	if err != nil {
		return true
	}
	for _, pid := range found {
		if member, err := sys.Group(pid); err != nil || member != group {
			continue
		}
		if st, err := procfs.ReadStatNoComm(pid); err == nil && st.Alive() {
			return true
		}
	}
	return false
}
