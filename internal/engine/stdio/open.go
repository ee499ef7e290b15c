package stdio

import (
	"io"
	"os"
	"os/exec"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/pty"
)

// OpenInput makes the pipe of standard input.
func (all *Streams) OpenInput() (err error) {
	s := &all.Each[0]
	s.End.Notify(all.climber.Wake)
	if all.pty != nil {
		err = all.pty.Input(&s.End)
	} else {
		s.Child, err = s.End.Input()
	}
	if err != nil {
		return err
	}
	s.Kind, s.In = StreamInput, new(drain.Input)
	return nil
}

// OpenOutput makes the pipe of an output.
func (all *Streams) OpenOutput(fd int) (err error) {
	s := &all.Each[fd]
	s.End.Notify(all.climber.Wake)
	if all.pty != nil && fd == 1 {
		all.pty.Output(&s.End)
	} else if s.Child, err = s.End.Output(); err != nil {
		return err
	}
	s.Output = new(Output)
	return nil
}

// OpenPTY makes a pseudo-terminal for the command, in place of the pipes of standard output and, unless that is a file,
// standard input.
func (all *Streams) OpenPTY(size pty.Size, cmd *exec.Cmd) (err error) {
	var child *os.File
	if all.pty, child, err = pty.Open(size, cmd.SysProcAttr); err != nil {
		return err
	}
	all.Each[1].Child = child
	if !Direct(cmd.Stdin) {
		all.Each[0].Child = child
	}
	return nil
}

// ReleasePTY lets the pseudo-terminal come to its end, once no other process has it.
func (all *Streams) ReleasePTY() {
	if all.pty != nil {
		all.ChildEnds = pipe.Both(all.ChildEnds, all.pty.Release(all.climber.Wake))
	}
}

// Resize changes the size of the pseudo-terminal, if there is one. The error is os.ErrProcessDone once it is closed.
func (all *Streams) Resize(rows, cols uint16) error {
	switch end := &all.Each[1].End; {
	case all.pty == nil:
		return nil
	case end.Open():
		return end.Resize(rows, cols)
	}
	return os.ErrProcessDone
}

// typed returns what feeds standard input.
func (all *Streams) typed(callers io.Reader) io.Reader {
	if all.pty != nil {
		return pty.Typing(callers)
	}
	return callers
}
