// Package pty makes pseudo-terminals for commands.
//
// The master is an [pipe.End] like that of a pipe: reading it gives what the command writes, writing it is typing. What
// differs from a pipe, and why nothing waits for it:
//
//   - The master ends, with EIO, as soon as no process has the slave open, and can go on when one opens it again. A
//     command may close all it has of its terminal, and open /dev/tty later. So this process keeps a slave of its own
//     until the tree has ended: only then is the end of the master the end.
//   - Closing the last master hangs up: the session gets SIGHUP, and all that have the slave open get errors. It
//     comes after the end of the tree, so that it concerns strangers only.
//   - A process can hold locks of the slave, by copying from or to memory that never comes. The master's reads, writes
//     and poll(2) take none of them; its close and TIOCSWINSZ do. All are made as those of a pipe are, by a goroutine
//     that can be left behind.
//   - Standard input has no end of its own on a terminal: see [Typing].
package pty

import (
	"errors"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Supported reports whether there are pseudo-terminals for commands on this platform.
const Supported = runtime.GOOS == "linux"

// A Size is that of a terminal, in characters.
type Size struct{ Rows, Cols uint16 }

// A Terminal is what this process has of a pseudo-terminal, besides its Ends.
type Terminal struct {
	master int
	taken  bool     // by Output
	key    uint64   // of the slave
	kept   *os.File // the slave of ours
}

// Open makes a pseudo-terminal, for a command that is started with attr. It returns the slave, which blocks, for the
// command.
func Open(size Size, attr *syscall.SysProcAttr) (*Terminal, *os.File, error) {
	master, slave, err := sys.OpenPTY(size.Rows, size.Cols)
	if err != nil {
		return nil, nil, os.NewSyscallError("pty", err)
	}
	sys.GivePTY(slave, attr)
	childs, err := sys.Dup(slave)
	if err != nil {
		sys.Close(slave)
		sys.Close(master)
		return nil, nil, os.NewSyscallError("dup", err)
	}
	key, _ := sys.FileKey(slave) // without it, holders cannot be named
	t := &Terminal{master: master, key: key, kept: os.NewFile(uintptr(slave), "pty")}
	return t, os.NewFile(uintptr(childs), "pty"), nil
}

// Output makes e the end that reads what the command writes, and that hangs up when it is closed. It is called once.
func (t *Terminal) Output(e *pipe.End) {
	t.taken = true
	e.Master(t.master, t.key)
}

// Input makes e an end to type with.
func (t *Terminal) Input(e *pipe.End) error {
	fd, err := sys.Dup(t.master)
	if err != nil {
		return os.NewSyscallError("dup", err)
	}
	e.Master(fd, t.key)
	return nil
}

// Release closes the slave of ours, from when on the end of the output can be met. It does not wait for long; what it
// returns tells when that is over, and notify is called if that is later. Releasing twice does nothing.
func (t *Terminal) Release(notify func()) pipe.Closing {
	kept := t.kept
	t.kept = nil
	if !t.taken { // by a start that failed
		t.taken = true
		sys.Close(t.master)
	}
	if kept == nil {
		return pipe.Closing{}
	}
	return pipe.CloseFiles([3]*os.File{kept}, notify)
}

// Attr makes attr, of a process that leads a session, one whose process has its descriptor fd for its controlling
// terminal.
func Attr(attr *syscall.SysProcAttr, fd int) error {
	if !Supported {
		return errors.ErrUnsupported
	}
	if !sys.NewTerminal(attr, fd) {
		return errors.New("asks for another terminal")
	}
	return nil
}

// endOfFile is Ctrl-D: a terminal makes of it the end of a read, unless a program had it do something else.
const endOfFile = '\x04'

// Typing returns a Reader of what is to be typed for r: what r has, and at its end Ctrl-D, twice where a line has no
// end, since the first one ends that line.
func Typing(r io.Reader) io.Reader { return &typing{r: r, fresh: true} }

type typing struct {
	r     io.Reader
	fresh bool  // at the start of a line
	err   error // of r
	last  int   // how many Ctrl-D are still to come
}

func (t *typing) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for t.err == nil {
		n, err := t.r.Read(p)
		if n < 0 || n > len(p) {
			return n, err // the reader says what is wrong with that
		}
		if n > 0 {
			t.fresh = p[n-1] == '\n' || p[n-1] == '\r'
		}
		if err != nil {
			t.err, t.last = err, 2
			if t.fresh {
				t.last = 1
			}
		}
		if n > 0 || err == nil {
			return n, nil
		}
	}
	if t.last == 0 {
		return 0, t.err
	}
	n := min(t.last, len(p))
	for i := range n {
		p[i] = endOfFile
	}
	t.last -= n
	return n, nil
}
