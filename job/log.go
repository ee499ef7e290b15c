package job

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// logGrain is what holes of a log are rounded to: a multiple of every file system's blocks.
const logGrain = 64 << 10

// openLog opens a log for a command to append to, and returns where its output will begin.
func openLog(path string, limit int64) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && limit > 0 {
		err = holesIn(path)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// holesIn tries, in a file beside the log, whether the file system has holes and shows them.
func holesIn(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), holesFile)
	if err != nil {
		return err
	}
	defer f.Close()
	defer os.Remove(f.Name())
	if _, err := f.Write(bytes.Repeat([]byte{'x'}, 2*logGrain)); err != nil {
		return err
	}
	var from int64
	err = control(f, func(fd int) (err error) {
		if err = sys.PunchHole(fd, 0, logGrain); err == nil {
			from, err = sys.DataFrom(fd, 0)
		}
		return err
	})
	if err != nil || from != logGrain {
		return errors.Join(ErrLogBound, err)
	}
	return nil
}

func control(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if e := conn.Control(func(fd uintptr) { err = do(int(fd)) }); e != nil {
		return e
	}
	return err
}

// dataFrom returns where what is left of a log begins, from off on: its end if nothing is.
func dataFrom(f *os.File, off int64) (from, size int64, err error) {
	st, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if off >= st.Size() {
		return off, st.Size(), nil
	}
	err = control(f, func(fd int) (err error) {
		from, err = sys.DataFrom(fd, off)
		return err
	})
	if sys.NoData(err) {
		return st.Size(), st.Size(), nil
	}
	return from, st.Size(), err
}

// logPause is how long the log may be written to between two looks at its size.
const logPause = 50 * time.Millisecond

// boundLog gives back the oldest of the log. While nothing is written nobody wakes.
func (k *keeper) boundLog() {
	f, err := os.OpenFile(k.job.LogPath(), os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	w := watchWrites(k.job.LogPath())
	defer w.close()
	from, _, err := dataFrom(f, 0)
	if err != nil {
		return
	}
	for {
		from = k.punch(f, from)
		if w.await(k.ctx, func() bool { return k.grown(f, from) }) != nil {
			return
		}
		if sleep(k.ctx, logPause) != nil {
			return
		}
	}
}

func (k *keeper) grown(f *os.File, from int64) bool {
	st, err := f.Stat()
	return err == nil && st.Size()-from >= k.set.LogMax*k.set.LogKeep
}

// punch gives back as many steps as it takes, and returns where the rest begins.
func (k *keeper) punch(f *os.File, from int64) int64 {
	st, err := f.Stat()
	if err != nil {
		return from
	}
	if st.Size() < from { // the job has truncated it
		from = 0
	}
	upTo := from
	for st.Size()-upTo >= k.set.LogMax*k.set.LogKeep {
		upTo += k.set.LogMax
	}
	upTo -= upTo % logGrain
	if upTo <= from {
		return from
	}
	if control(f, func(fd int) error { return sys.PunchHole(fd, 0, upTo) }) != nil {
		return from
	}
	return upTo
}

// A writeWatch waits for writes to a file.
type writeWatch struct {
	path string
	file *os.File // of inotify; nil where there is no room for one
}

func watchWrites(path string) *writeWatch {
	w := &writeWatch{path: path}
	if fd, err := sys.WatchWrites(path); err == nil {
		w.file = os.NewFile(uintptr(fd), "inotify")
	}
	return w
}

func (w *writeWatch) close() {
	if w.file != nil {
		w.file.Close()
	}
}

// blindPause is how often a file is looked at where its writes can not be waited for.
const blindPause = 200 * time.Millisecond

// await waits for a write. It asks, once it would notice one, whether there is something already.
func (w *writeWatch) await(ctx context.Context, already func() bool) error {
	if w.file == nil {
		return sleep(ctx, blindPause)
	}
	if err := control(w.file, func(fd int) error { return sys.ArmWatch(fd, w.path) }); err != nil {
		return sleep(ctx, blindPause)
	}
	if already() {
		return ctx.Err()
	}
	if err := w.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var buf [4096]byte
	_, err := w.file.Read(buf[:])
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A Line is one line of a log.
type Line struct {
	Text   string // without the newline
	Offset int64  // where in the log it begins
	// Missed is how many bytes before it were given up or truncated before they could be read.
	Missed int64
	// Part says that the line goes on in the next one: it is longer than 64 KiB, or the job has ended within it.
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

func (j *Job) openReader(from int64) (*reader, error) {
	f, err := os.Open(j.LogPath())
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

// Follow yields the lines of this run from the oldest that is left, and waits for more until the job has ended or the
// context is done. What it missed is in [Line.Missed]. An error ends it, with an empty line.
func (j *Job) Follow(ctx context.Context) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		r, err := read(j.dir())
		if err != nil {
			yield(Line{}, wrap("follow", j.name, err))
			return
		}
		in, err := j.openReader(r.LogFrom)
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
				<-ctx.Done() // it can not be told
			}
			wake()
		}()
		defer func() {
			cancel()
			<-ended
		}()
		if err := in.follow(awake, j.LogPath(), yield); err != nil && ctx.Err() == nil {
			yield(Line{}, wrap("follow", j.name, err))
		}
	}
}

// follow yields lines until ctx is done, which is when the job has ended, and then what is left.
func (r *reader) follow(ctx context.Context, path string, yield func(Line, error) bool) error {
	w := watchWrites(path)
	defer w.close()
	for {
		over := ctx.Err() != nil // before the last look
		for {
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
		if err := w.await(ctx, more); err != nil && ctx.Err() == nil {
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
	lines, err := j.tail(n, r.LogFrom)
	return lines, wrap("read", j.name, err)
}

const maxTail = 1 << 20

func (j *Job) tail(n int, from int64) ([]Line, error) {
	in, err := j.openReader(from)
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
