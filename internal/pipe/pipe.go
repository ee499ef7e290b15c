// Package pipe makes the pipes of a command: a raw, non-blocking end for this process, which the
// run's own poller watches, and a blocking [os.File] for the child.
package pipe

import (
	"os"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// An End is this process's end of a pipe. It is not safe for concurrent use.
type End struct{ fd int }

// Output makes the pipe of an output stream: this process reads, the child writes.
func Output() (*End, *os.File, error) {
	r, w, err := open()
	if err != nil {
		return nil, nil, err
	}
	return ends(r, w)
}

// Input makes the pipe of standard input: this process writes, the child reads.
func Input() (*End, *os.File, error) {
	r, w, err := open()
	if err != nil {
		return nil, nil, err
	}
	return ends(w, r)
}

func open() (r, w int, err error) {
	r, w, err = sys.Pipe()
	return r, w, os.NewSyscallError("pipe2", err)
}

// ends sets O_NONBLOCK on our end alone: the two ends of a pipe are two open file descriptions.
func ends(ours, childs int) (*End, *os.File, error) {
	if err := sys.SetNonblock(ours); err != nil {
		sys.Close(ours)
		sys.Close(childs)
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return &End{fd: ours}, os.NewFile(uintptr(childs), "|"), nil
}

// FD returns the descriptor, for a poller. It is -1 after Close.
func (e *End) FD() int { return e.fd }

// Read reads once. The error is EAGAIN when the pipe is empty; 0 and no error is its end.
func (e *End) Read(p []byte) (int, error) { return sys.Read(e.fd, p) }

// Write writes once. The error is EAGAIN when the pipe is full, EPIPE when nobody reads.
func (e *End) Write(p []byte) (int, error) { return sys.Write(e.fd, p) }

// Unread returns how many bytes wait in the pipe.
func (e *End) Unread() (int, error) { return sys.Unread(e.fd) }

// Hangup reports whether no process holds the other end.
func (e *End) Hangup() bool {
	found, err := sys.Ready(e.fd)
	return err == nil && found.Hangup
}

// Inode returns the pipe's inode number, its name in /proc/PID/fd; 0 if that can not be had.
func (e *End) Inode() uint64 {
	ino, err := sys.Inode(e.fd)
	if err != nil {
		return 0
	}
	return ino
}

// Grow enlarges the pipe's buffer where the system lets us.
func (e *End) Grow(size int) { sys.GrowPipe(e.fd, size) }

// Close closes the end. Closing twice does nothing.
func (e *End) Close() {
	if e.fd >= 0 {
		sys.Close(e.fd)
		e.fd = -1
	}
}
