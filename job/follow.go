package job

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
)

// A Line is one line of a log.
type Line struct {
	Text   string // without the newline
	Offset int64  // where in the log it begins
	// Missed is how many bytes before it were given up or truncated before they could be read.
	Missed int64
	// Part says that the line goes on in the next one: it is longer than 64 KiB, or the job has
	// ended within it.
	Part bool
}

// maxLine is the longest line that is held in memory.
const maxLine = 64 << 10

// A reader reads lines of a log that is written to, given up from the front, and maybe truncated.
type reader struct {
	file   *os.File
	off    int64  // of what buf begins with
	buf    []byte // read and not yet returned
	missed int64
	torn   bool // a line is to be skipped up to its end, since its beginning is gone
}

func openReader(path string, from int64) (*reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &reader{file: f, off: from}, nil
}

// next returns the next line. It reports false where there is none yet.
func (r *reader) next() (Line, bool, error) {
	for {
		if line, ok := r.line(); ok {
			return line, true, nil
		}
		n, err := r.fill()
		if err != nil || n == 0 {
			return Line{}, false, err
		}
	}
}

// rest returns what is left without a newline at the end.
func (r *reader) rest() (Line, bool) {
	if len(r.buf) == 0 {
		return Line{}, false
	}
	return r.take(len(r.buf), 0, true), true
}

func (r *reader) line() (Line, bool) {
	for {
		end := bytes.IndexByte(r.buf, '\n')
		switch {
		case end < 0 && r.torn:
			r.skip(len(r.buf))
			return Line{}, false
		case end < 0 && len(r.buf) >= maxLine:
			return r.take(maxLine, 0, true), true
		case end < 0:
			return Line{}, false
		case r.torn:
			r.skip(end + 1)
			r.torn = false
		case end > maxLine:
			return r.take(maxLine, 0, true), true
		default:
			return r.take(end, 1, false), true
		}
	}
}

func (r *reader) take(n, newline int, part bool) Line {
	l := Line{Text: string(r.buf[:n]), Offset: r.off, Missed: r.missed, Part: part}
	r.off, r.buf, r.missed = r.off+int64(n+newline), r.buf[n+newline:], 0
	return l
}

func (r *reader) skip(n int) {
	r.missed += int64(n)
	r.off, r.buf = r.off+int64(n), r.buf[n:]
}

// fill reads on. What was given up while it was read reads as zeros, and is dropped.
func (r *reader) fill() (int, error) {
	at := r.off + int64(len(r.buf))
	from, size, err := dataFrom(r.file, at)
	switch {
	case err != nil:
		return 0, err
	case size < at: // truncated: what there was is not known
		r.off, r.buf, r.torn = 0, nil, false
		return r.fill()
	case from > at:
		r.missed += from - r.off
		r.off, r.buf, r.torn = from, nil, true
		at = from
	}
	chunk := make([]byte, maxLine)
	n, err := r.file.ReadAt(chunk, at)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if n == 0 {
		return 0, nil
	}
	if still, _, err := dataFrom(r.file, at); err != nil || still > at {
		return r.fill()
	}
	r.buf = append(r.buf, chunk[:n]...)
	return n, nil
}

// Follow yields the lines of this run from the oldest that is left, and waits for more until the
// job has ended or the context is done. What it missed is in [Line.Missed]. An error ends it, with
// an empty line.
func (j *Job) Follow(ctx context.Context) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r, err := read(j.dir())
		if err != nil {
			yield(Line{}, wrap("follow", j.name, err))
			return
		}
		in, err := openReader(j.LogPath(), r.LogFrom)
		if err != nil {
			yield(Line{}, wrap("follow", j.name, err))
			return
		}
		defer in.file.Close()
		ended := make(chan struct{})
		ctx, cancel := context.WithCancel(ctx)
		awake, wake := context.WithCancel(ctx)
		go func() {
			defer close(ended)
			if j.awaitEnd(ctx, r, j.keeper()) != nil {
				<-ctx.Done() // it cannot be told
			}
			wake()
		}()
		defer func() {
			cancel()
			<-ended
		}()
		if err := in.follow(ctx, awake, j.LogPath(), yield); err != nil && ctx.Err() == nil {
			yield(Line{}, wrap("follow", j.name, err))
		}
	}
}

// follow yields lines until awake is done, which is when the job has ended, and then what is left; or until ctx is
// done.
func (r *reader) follow(ctx, awake context.Context, path string, yield func(Line, error) bool) error {
	w := watchWrites(path)
	defer w.close()
	for {
		over := awake.Err() != nil // before the last look
		for ctx.Err() == nil {
			line, ok, err := r.next()
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if !yield(line, nil) {
				return nil
			}
		}
		if over {
			if line, ok := r.rest(); ok {
				yield(line, nil)
			}
			return nil
		}
		more := func() bool {
			st, err := r.file.Stat()
			return err != nil || st.Size() != r.off+int64(len(r.buf))
		}
		if err := w.await(awake, more); err != nil && awake.Err() == nil {
			return err
		}
	}
}

// Tail returns the last lines of this run, n at most and no more than the last MiB.
func (j *Job) Tail(n int) ([]Line, error) {
	r, err := read(j.dir())
	if err != nil {
		return nil, wrap("read", j.name, err)
	}
	lines, err := tail(j.LogPath(), n, r.LogFrom)
	return lines, wrap("read", j.name, err)
}

const maxTail = 1 << 20

func tail(path string, n int, from int64) ([]Line, error) {
	in, err := openReader(path, from)
	if err != nil {
		return nil, err
	}
	defer in.file.Close()
	st, err := in.file.Stat()
	if err != nil {
		return nil, err
	}
	if at := st.Size() - maxTail; at > from {
		in.off, in.torn = at, true
	}
	var lines []Line
	for {
		if in.off >= st.Size() { // what is written from then on could go on for ever
			return lines[max(len(lines)-n, 0):], nil
		}
		line, ok, err := in.next()
		if err != nil {
			return lines, err
		}
		if !ok {
			line, ok = in.rest()
			if ok {
				lines = append(lines, line)
			}
			return lines[max(len(lines)-n, 0):], nil
		}
		if lines = append(lines, line); len(lines) > 2*max(n, 64) {
			lines = append(lines[:0], lines[len(lines)-n:]...)
		}
	}
}
