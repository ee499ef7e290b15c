package pipe

import (
	"io"
	"os"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Waiter lets another goroutine wait for an End and read from it or write to it, parked by the runtime's poller. It
// is of no use once the End is closed.
type Waiter struct {
	file *os.File
	conn syscall.RawConn
}

// Waiter returns the Waiter of an open End, which has one at most; that of a pseudo-terminal has none.
func (e *End) Waiter() (*Waiter, error) {
	if !e.open || e.file != nil || e.master || !sys.Enabled(sys.Lending) {
		return nil, os.ErrInvalid
	}
	e.file = os.NewFile(uintptr(e.fd), "|")
	// A file that the runtime could not register has no deadlines, and no wait on it could end.
	if err := e.file.SetReadDeadline(time.Time{}); err != nil {
		return nil, err
	}
	conn, err := e.file.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Waiter{file: e.file, conn: conn}, nil
}

// Await calls try, and again each time the pipe may have become readable, until try reports true, or
// Interrupt was called, or the End closed.
func (w *Waiter) Await(try func(pipe io.Reader) bool) {
	_ = w.conn.Read(func(fd uintptr) bool { return try(raw(fd)) })
}

// AwaitRoom does the same for when there may be room in the pipe.
func (w *Waiter) AwaitRoom(try func(pipe io.Writer) bool) {
	_ = w.conn.Write(func(fd uintptr) bool { return try(raw(fd)) })
}

// Interrupt ends Await and AwaitRoom, the present one and all later ones. Any goroutine may call it.
func (w *Waiter) Interrupt() { _ = w.file.SetDeadline(time.Unix(1, 0)) }

// raw reads and writes without blocking. It is valid while Await or AwaitRoom calls try.
type raw int

func (r raw) Read(p []byte) (int, error) { return sys.Read(int(r), p) }

func (r raw) Write(p []byte) (int, error) { return sys.Write(int(r), p) }
