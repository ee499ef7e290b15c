package discard

import (
	"errors"
	"io"
	"sync"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A sink makes bytes disappear. splice(2) to /dev/null takes them out of the pipe and copies none;
// where it can not be had they are read into a buffer that is lent for the call.
type sink struct {
	fd      int  // of /dev/null
	null    bool // fd is open
	refused bool // splice is not to be had
}

// takeSize is what one call takes at most: all that a pipe may hold without privilege.
const takeSize = 1 << 20

// A buffer is as large as a pipe that nobody enlarged.
const bufferSize = 64 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

func (s *sink) open() {
	if s.refused {
		return
	}
	fd, err := sys.OpenSink()
	s.fd, s.null = fd, err == nil
}

func (s *sink) close() {
	if s.null {
		s.null = false
		sys.Close(s.fd)
	}
}

// take discards what is there now, at most takeSize bytes. It reports whether the pipe has ended.
func (s *sink) take(end *pipe.End) (n int, ended bool) {
	var err error
	if s.null {
		n, err = sys.Splice(end.FD(), s.fd, takeSize)
		if err == nil || errors.Is(err, syscall.EAGAIN) {
			return n, n == 0 && err == nil
		}
		s.refused = true // only a try tells
		s.close()
	}
	return copyOut(end)
}

func copyOut(end io.Reader) (n int, ended bool) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	n, err := end.Read(buf[:])
	return n, n == 0 && !errors.Is(err, syscall.EAGAIN)
}
