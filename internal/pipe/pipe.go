// Package pipe makes the pipes of a command: a raw, non-blocking end for this process, which the
// run's own poller watches, and a blocking [os.File] for the child.
package pipe

import (
	"os"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// An End is this process's end of a pipe. The zero End is closed. It is not safe for concurrent use.
//
// No method blocks for longer than a moment, even if a process holds the pipe: see [drain.ErrHeld].
type End struct {
	fd     int
	open   bool
	master bool       // it is no pipe, but the master of a pseudo-terminal
	slave  uint64     // the key of its slave
	small  int        // what it held before Grow, which took a place of largePipes; else 0
	file   *os.File   // owns fd, once there was a Waiter
	late   *hand      // makes a call that has not returned, or whose result was not fetched
	calls  [2]Closing // that were under way when it was closed, and the close itself
	notify func()
}

// Notify sets what is called, by another goroutine, when a call that was held has returned.
func (e *End) Notify(notify func()) { e.notify = notify }

// Held reports whether a call on the pipe, Close included, has not returned.
func (e *End) Held() bool {
	return e.late != nil && e.late.state.Load() != back || !e.calls[0].Done() || !e.calls[1].Done()
}

// do makes a call by a hand. Where one is late that one has to return first. Its result is the caller's, if
// it was the same call; that of a Read or a Write waits for the caller to repeat it.
func (e *End) do(c call, p []byte, n int) (int, error) {
	if h := e.late; h != nil {
		if h.state.Load() != back || h.call != c && h.call <= callWrite {
			return 0, drain.ErrHeld
		}
		e.late = nil
		same, n, err := h.call == c && (c != callResize || h.n == n), h.n, h.err
		switch {
		case err != nil || same: // the caller counts the large pipes
		case h.call == callGrow:
			e.small = n
			largePipes.Add(1)
		case h.call == callShrink:
			e.leaveLarge()
		}
		h.giveBack()
		if same {
			return n, err
		}
	}
	h := takeHand()
	h.call, h.fd, h.p, h.n, h.notify = c, e.fd, p, n, e.notify
	if !h.begin() {
		e.late = h
		return 0, drain.ErrHeld
	}
	n, err := h.n, h.err
	h.giveBack()
	return n, err
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
	*e = End{fd: ours, open: true, notify: e.notify}
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
	if e.late == nil && e.ended() {
		return 0, nil
	}
	n, err := e.do(callRead, p, 0)
	return n, e.endOfMaster(err, nil)
}

// ended reports whether the pipe is at its end, and spares a hand what nearly every run asks once for each output. It
// asks twice: the kernel looks at the bytes before it looks at the writers, the last of which may have written in
// between.
func (e *End) ended() bool {
	if e.master {
		return false
	}
	for range 2 {
		if found, err := sys.Ready(e.fd); err != nil || !found.Hangup || found.Readable {
			return false
		}
	}
	return true
}

// Write writes once. The error is EAGAIN when the pipe is full, EPIPE when it has no reader.
func (e *End) Write(p []byte) (int, error) {
	if !e.open {
		return 0, os.ErrClosed
	}
	n, err := e.do(callWrite, p, 0)
	return n, e.endOfMaster(err, syscall.EPIPE)
}

// Unread returns how many bytes wait in the pipe.
func (e *End) Unread() (int, error) {
	if !e.open {
		return 0, os.ErrClosed
	}
	if e.master {
		return e.unreadOfMaster(), nil
	}
	return e.do(callUnread, nil, 0)
}

// Readable reports whether bytes wait in the pipe, or its end. It asks the kernel nothing that a process can hold.
func (e *End) Readable() bool {
	if !e.open {
		return false
	}
	found, err := sys.Ready(e.fd)
	return err == nil && found.Readable
}

// Hangup reports whether no process holds the other end. It is true of a closed End.
func (e *End) Hangup() bool {
	if !e.open {
		return true
	}
	found, err := sys.Ready(e.fd)
	return err == nil && found.Hangup
}

// Inode returns the pipe's inode number, its name in /proc/PID/fd; 0 if that cannot be had. Of a pseudo-terminal it is
// the key of the slave, [sys.FileKey].
func (e *End) Inode() uint64 {
	if !e.open {
		return 0
	}
	if e.master {
		return e.slave
	}
	ino, err := sys.Inode(e.fd)
	if err != nil {
		return 0
	}
	return ino
}

// Move returns the end for another owner, which keeps it for long, and leaves e closed. No poller may watch
// it. A pipe that was enlarged gets the default size again.
func (e *End) Move() End {
	e.shrink()
	moved := *e
	moved.notify = nil
	*e = End{}
	return moved
}

// Close closes the end. Closing twice does nothing. Where a process holds the pipe the descriptor is closed
// later, and Held is true until then. A call that is late goes on, and its bytes stay in use until it returns.
func (e *End) Close() {
	if !e.open {
		return
	}
	e.open = false
	e.leaveLarge()
	if e.late != nil {
		late := e.late
		e.late = nil
		call, closes := late.leaveToClose(e.file)
		e.calls[0] = call
		if closes {
			return
		}
	}
	h := takeHand()
	h.call, h.fd, h.files[0], h.notify = callClose, e.fd, e.file, e.notify
	if h.begin() {
		h.giveBack()
	} else {
		e.calls[1] = h.leave()
	}
}
