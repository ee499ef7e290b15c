package safeexec

import (
	"io"
	"os/exec"
	"slices"
	"sync"
)

type teeOption [2]io.Writer

func (o teeOption) apply(c *config) { c.tee = o }

// WithTee has output that is kept in the [Result] also written to these Writers, as it comes: stdout, stderr, or both;
// nil for none. It is for streams whose field in the command is nil. What is kept does not depend on the Writer: one
// that fails or blocks is treated as cmd.Stdout would be, with [ErrWriterFailed] or [ErrWriterStuck], while the bytes
// are kept all the same. If both are one Writer it is never called twice at once.
func WithTee(stdout, stderr io.Writer) Option { return teeOption{stdout, stderr} }

// WithMergedOutput gives the command one pipe for standard output and standard error: both are in Result.Stdout, in the
// order in which they were written, and go to the Writer or the file in cmd.Stdout if there is one. cmd.Stderr must be
// nil. [CombinedOutput] has it.
func WithMergedOutput() Option { return mergeOption{} }

func (c *config) checkTee(cmd *exec.Cmd) error {
	switch {
	case c.merge && cmd.Stderr != nil && !sameWriter(cmd.Stdout, cmd.Stderr):
		return &ConfigError{Name: "WithMergedOutput", Reason: "and Stderr are both set"}
	case c.merge && c.tee[1] != nil:
		return &ConfigError{Name: "WithTee", Reason: "has a Writer for standard error, which is merged"}
	case c.tee[0] != nil && cmd.Stdout != nil:
		return &ConfigError{Name: "WithTee", Reason: "and Stdout are both set"}
	case c.tee[1] != nil && cmd.Stderr != nil:
		return &ConfigError{Name: "WithTee", Reason: "and Stderr are both set"}
	case c.lines != nil && cmd.Stdout != nil && (cmd.Stderr != nil || c.merge):
		return &ConfigError{Name: "WithLines", Reason: "needs an output that the command has no Writer or file for"}
	}
	return nil
}

// A fanout is the Writer of a stream that is kept and delivered as well.
type fanout struct {
	mu sync.Mutex
	at int64      // how much of the stream came by
	to []follower // copied before it is changed
}

// A follower is one of those that it is delivered to.
type follower struct {
	io.Writer
	from int64        // the first byte that it gets
	end  func() error // called behind the last byte; or nil
}

// tees returns where an output goes besides being kept; nil if nowhere.
func (r *run) tees(fd int) *fanout {
	var f fanout
	if w := r.cfg.tee[fd-1]; w != nil {
		if r.teeLock == nil && sameWriter(r.cfg.tee[0], r.cfg.tee[1]) {
			r.teeLock = new(sync.Mutex)
		}
		f.to = append(f.to, follower{Writer: alone(w, r.teeLock), end: lastLine(w)})
	}
	if r.cfg.lines != nil {
		w := r.lineWriter(fd)
		f.to = append(f.to, follower{Writer: w, end: w.end})
	}
	if f.to == nil {
		return nil
	}
	return &f
}

// alone returns a Writer that is called by one goroutine at a time, if there is a lock for it.
func alone(w io.Writer, lock *sync.Mutex) io.Writer {
	if lock == nil {
		return w
	}
	return lockedWriter{w, lock}
}

type lockedWriter struct {
	w    io.Writer
	lock *sync.Mutex
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.w.Write(p)
}

// deliver has a stream that is kept delivered to f as well. It reports false if it can not at the moment.
func (s *stream) deliver(f *fanout, wake func()) bool {
	if !s.out.Tee(f, wake) {
		return false
	}
	s.fanout, s.kind = f, streamTee
	s.out.AtEnd(f.end)
	s.out.Lend(s.lend)
	return true
}

func (f *fanout) add(to follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = append(slices.Clip(f.to), to)
}

func (f *fanout) remove(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = slices.DeleteFunc(slices.Clone(f.to), func(each follower) bool { return each.Writer == w })
}

// Write is an error at the first Writer that fails. After that nothing is delivered any more.
func (f *fanout) Write(p []byte) (int, error) {
	f.mu.Lock()
	to, at := f.to, f.at
	f.at += int64(len(p))
	f.mu.Unlock()
	for _, each := range to {
		skip := max(each.from-at, 0)
		if skip >= int64(len(p)) {
			continue
		}
		switch n, err := each.Write(p[skip:]); {
		case err != nil:
			return 0, err
		case int64(n) != int64(len(p))-skip:
			return 0, io.ErrShortWrite
		}
	}
	return len(p), nil
}

func (f *fanout) end() error {
	f.mu.Lock()
	to := f.to
	f.mu.Unlock()
	for _, each := range to {
		if each.end != nil {
			if err := each.end(); err != nil {
				return err
			}
		}
	}
	return nil
}
