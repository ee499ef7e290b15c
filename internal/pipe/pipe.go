// Package pipe makes the pipes of a command: a raw, non-blocking end for this process, which the
// run's own poller watches, and a blocking [os.File] for the child.
package pipe

import (
	"os"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// An End is this process's end of a pipe. The zero End is closed. It is not safe for concurrent use.
type End struct {
	fd    int
	open  bool
	small int      // what it held before Grow, which took a place of largePipes; else 0
	file  *os.File // owns fd, once there was a Waiter
}

// Output makes the pipe of an output stream, read by this process, and returns the end that the
// child writes to.
func (e *End) Output() (child *os.File, err error) {
	r, w, err := open()
	if err != nil {
		return nil, err
	}
	return e.split(r, w)
}

// Input makes the pipe of standard input, written by this process, and returns the end that the
// child reads from.
func (e *End) Input() (child *os.File, err error) {
	r, w, err := open()
	if err != nil {
		return nil, err
	}
	return e.split(w, r)
}

func open() (r, w int, err error) {
	r, w, err = sys.Pipe()
	return r, w, os.NewSyscallError("pipe2", err)
}

// split sets O_NONBLOCK on our end alone: the two ends of a pipe are two open file descriptions.
func (e *End) split(ours, childs int) (*os.File, error) {
	if err := sys.NonblockPipe(ours); err != nil {
		sys.Close(ours)
		sys.Close(childs)
		return nil, os.NewSyscallError("fcntl", err)
	}
	*e = End{fd: ours, open: true}
	return os.NewFile(uintptr(childs), "|"), nil
}

// Open reports whether the end is open.
func (e *End) Open() bool { return e.open }

// FD returns the descriptor, for a poller, while the end is open.
func (e *End) FD() int { return e.fd }

// Read reads once. The error is EAGAIN when the pipe is empty; 0 and no error is its end.
func (e *End) Read(p []byte) (int, error) {
	if !e.open {
		return 0, os.ErrClosed
	}
	return sys.Read(e.fd, p)
}

// Write writes once. The error is EAGAIN when the pipe is full, EPIPE when nobody reads.
func (e *End) Write(p []byte) (int, error) {
	if !e.open {
		return 0, os.ErrClosed
	}
	return sys.Write(e.fd, p)
}

// Unread returns how many bytes wait in the pipe.
func (e *End) Unread() (int, error) {
	if !e.open {
		return 0, os.ErrClosed
	}
	return sys.Unread(e.fd)
}

// Hangup reports whether no process holds the other end. It is true of a closed End.
func (e *End) Hangup() bool {
	if !e.open {
		return true
	}
	found, err := sys.Ready(e.fd)
	return err == nil && found.Hangup
}

// Inode returns the pipe's inode number, its name in /proc/PID/fd; 0 if that can not be had.
func (e *End) Inode() uint64 {
	if !e.open {
		return 0
	}
	ino, err := sys.Inode(e.fd)
	if err != nil {
		return 0
	}
	return ino
}

// Move returns the end for another owner, who keeps it for long, and leaves e closed. No poller may watch
// it. A pipe that was enlarged is of the usual size again.
func (e *End) Move() End {
	e.shrink()
	moved := *e
	*e = End{}
	return moved
}

// Close closes the end. Closing twice does nothing.
func (e *End) Close() {
	if e.open {
		e.open = false
		e.leaveLarge()
		if e.file != nil {
			e.file.Close()
			return
		}
		sys.Close(e.fd)
	}
}
