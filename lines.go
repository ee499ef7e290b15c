package safeexec

import (
	"fmt"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/lines"
)

// A Line is one line of output, or a piece of a long one.
type Line struct {
	Stream int       // 1: standard output, 2: standard error
	Time   time.Time // when it was read
	Text   string    // without its end
	// Partial says that the line goes on in the next of its stream: it is longer than 64 KiB. A piece ends between two
	// characters.
	Partial bool
}

type linesOption func(Line)

func (o linesOption) apply(c *config) { c.lines = o }

// WithLines has f called with each line of output as it comes. There is no limit to the length of a line: a long one
// comes in pieces, [Line.Partial]. A line ends with "\n", "\r\n" or "\r", so that each state of a progress bar is a
// line, and the last one need not have an end. Output is kept in the [Result] as without WithLines. Streams whose
// field in the command is set have no lines here; at least one must be nil.
//
// f is called by one goroutine at a time. It may call the methods of [Process] that do not wait for the end, such as
// [Process.Kill]. While it does not return, the command is held up once its pipe is full, and the run is bounded as
// with a Writer: see [WithDrainTimeout], [ErrWriterStuck]. A panic of f ends its calls for the stream, and is in the
// error, which matches [ErrWriterFailed].
func WithLines(f func(Line)) Option { return linesOption(f) }

// A lineWriter calls a function with the lines of a stream.
type lineWriter struct {
	*lines.Splitter
	now time.Time // when what is being written was read
}

func newLineWriter(fd int, f func(Line)) *lineWriter {
	w := new(lineWriter)
	w.Splitter = lines.New(func(text []byte, partial bool) {
		f(Line{Stream: fd, Time: w.now, Text: string(text), Partial: partial})
	})
	return w
}

func (w *lineWriter) Write(p []byte) (int, error) {
	return len(p), w.contain(func() { _, _ = w.Splitter.Write(p) })
}

func (w *lineWriter) end() error { return w.contain(w.Flush) }

// contain calls f, and makes a panic an error.
func (w *lineWriter) contain(f func()) (err error) {
	done := false
	defer func() {
		if !done {
			if v := recover(); v != nil { // else the function has ended its goroutine
				err = fmt.Errorf("function of WithLines panicked: %v", v)
			}
		}
	}()
	w.now = time.Now()
	f()
	done = true
	return nil
}

// lineWriter returns what has the function of WithLines called for an output.
func (r *run) lineWriter(fd int) *lineWriter {
	if r.linesLock == nil {
		r.linesLock = new(sync.Mutex)
	}
	f, lock := r.cfg.lines, r.linesLock
	return newLineWriter(fd, func(line Line) {
		lock.Lock()
		defer lock.Unlock()
		f(line)
	})
}
