package safeexec

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/pty"
)

type ptyOption struct{ rows, cols int }

func (o ptyOption) apply(c *config) { c.pty = &o }

// WithPTY gives the command a pseudo-terminal of its own, of this size in characters, for programs that want one: they
// show colors and progress, ask questions, flush each line, or refuse to work without. [WithTerminal] lends the
// terminal that this process has instead.
//
// The terminal is the command's controlling terminal, /dev/tty, and all its standard streams that the command has no
// other for:
//
//   - What is written to it is one stream, Result.Stdout, captured and bounded as any, or goes to the Writer in
//     cmd.Stdout; lines end with "\r\n", as terminals have it, and what is typed is echoed. Result.Stderr is empty. A
//     Writer or file in cmd.Stderr, other than that in cmd.Stdout, gets standard error by itself.
//   - What cmd.Stdin reads is typed: Ctrl-C in it is an interrupt, and a line is at most 4095 bytes long. At its end
//     Ctrl-D is typed, once on a line of its own, else twice: a program that reads the terminal line by line meets the
//     end of file then, once. To type in answer to what is shown, give it the reading end of an [io.Pipe], and close
//     the other end behind the last answer. Without a Reader nobody types, and a program that asks waits until its
//     time is over; the [Report] says that it "waits for terminal input". A file, such as /dev/null, is passed on, and
//     is not the terminal.
//
// [Process.Resize] changes the size. When the command exits, the kernel sends SIGHUP to what it left in the foreground.
// An interactive shell takes no notice of SIGTERM: [WithTermSignal] with SIGHUP ends it at once.
//
// A file in cmd.Stdout, StdinPipe and its kin, WithTerminal and [BackgroundLeave], which would leave processes a
// terminal that nobody reads, are refused, and so are SysProcAttr.Setctty and Noctty. Without /dev/ptmx the error matches
// [ErrNoTerminal], and on other systems than Linux [ErrUnsupported]; nothing has been started then.
func WithPTY(rows, cols int) Option { return ptyOption{rows, cols} }

func (c *config) checkPTY(cmd *exec.Cmd) error {
	if c.pty == nil {
		return nil
	}
	conflict := func(reason string) error { return &ConfigError{Name: "WithPTY", Reason: reason} }
	switch {
	case !isSize(c.pty.rows) || !isSize(c.pty.cols):
		return conflict("is of no size that a terminal can have")
	case c.terminal:
		return conflict("and WithTerminal are both set")
	case c.background == BackgroundLeave:
		return conflict("can not leave background processes a terminal that nobody reads")
	case direct(cmd.Stdout):
		return conflict("and a file in Stdout are both set")
	}
	for _, stream := range []any{cmd.Stdin, cmd.Stderr} {
		if f, ok := stream.(*os.File); ok && madeByPipe(cmd, f) {
			return conflict("and StdinPipe or StderrPipe are both set")
		}
	}
	c.merge = c.merge || cmd.Stderr == nil
	return nil
}

func isSize(n int) bool { return n > 0 && n <= math.MaxUint16 }

// openPTY makes the terminal, if there is to be one. Who answers for a command in a test has pipes.
func (r *run) openPTY() (err error) {
	if r.cfg.pty == nil || r.fake != nil {
		return nil
	}
	size := pty.Size{Rows: uint16(r.cfg.pty.rows), Cols: uint16(r.cfg.pty.cols)}
	r.pty, r.streams[1].child, err = pty.Open(size, r.cmd.SysProcAttr)
	if err != nil {
		return join(ErrNoTerminal, err)
	}
	if !direct(r.cmd.Stdin) {
		r.streams[0].child = r.streams[1].child
	}
	return nil
}

// inputEnd opens our end of standard input.
func (r *run) inputEnd(s *stream) (child *os.File, err error) {
	if r.pty != nil {
		return s.child, r.pty.Input(&s.end)
	}
	return s.end.Input()
}

// outputEnd opens our end of an output.
func (r *run) outputEnd(fd int) (child *os.File, err error) {
	s := &r.streams[fd]
	if r.pty != nil && fd == 1 {
		r.pty.Output(&s.end)
		return s.child, nil
	}
	return s.end.Output()
}

// typed returns what feeds standard input.
func (r *run) typed(callers io.Reader) io.Reader {
	if r.pty != nil {
		return pty.Typing(callers)
	}
	return callers
}

// releasePTY lets the terminal come to its end, once nobody else has it.
func (r *run) releasePTY() {
	if r.pty != nil {
		r.childEnds = pipe.Both(r.childEnds, r.pty.Release(r.wake))
	}
}

// controlPTY has the command take its standard output for its controlling terminal.
func (r *run) controlPTY(attr *syscall.SysProcAttr) error {
	if r.cfg.pty == nil || r.fake != nil {
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

// Resize changes the size of the terminal of [WithPTY]: its foreground gets SIGWINCH if it was another. The error is
// [os.ErrProcessDone] once the terminal is closed, and a [*ConfigError] without WithPTY or for a size that no terminal
// can have. A process that holds the terminal's locks is waited for at most five seconds.
func (p *Process) Resize(rows, cols int) error {
	r := p.run
	switch {
	case r.cfg.pty == nil:
		return &ConfigError{Name: "Resize", Reason: "needs WithPTY"}
	case !isSize(rows) || !isSize(cols):
		return &ConfigError{Name: "Resize", Reason: "is of no size that a terminal can have"}
	}
	until := time.Now().Add(resizeBound)
	for {
		err := os.ErrProcessDone
		p.ask(func() {
			if r.pty == nil {
				err = nil // a test answers for the command
			} else if end := &r.streams[1].end; end.Open() {
				err = end.Resize(uint16(rows), uint16(cols))
			}
		})
		switch {
		case errors.Is(err, drain.ErrHeld) && time.Now().Before(until):
			time.Sleep(resizeStep)
		case err == nil || errors.Is(err, os.ErrProcessDone):
			return err
		default:
			return fmt.Errorf("safeexec: resize the terminal: %w", err)
		}
	}
}

// A process can hold the locks of a terminal, and a busy machine look like that.
const (
	resizeBound = 5 * time.Second
	resizeStep  = 10 * time.Millisecond
)
