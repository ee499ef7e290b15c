package stdio

import (
	"io"
	"slices"
	"sync"
)

// A Fanout is the Writer of a stream that is kept and delivered as well.
type Fanout struct {
	mu sync.Mutex
	At int64      // how much of the stream came by
	To []Follower // copied before it is changed
}

// A Follower is one of those that it is delivered to.
type Follower struct {
	io.Writer
	From int64        // the first byte that it gets
	End  func() error // called behind the last byte; or nil
}

// Alone returns a Writer that is called by one goroutine at a time, if there is a lock for it.
func Alone(w io.Writer, lock *sync.Mutex) io.Writer {
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

// Add adds one.
func (f *Fanout) Add(to Follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.To = append(slices.Clip(f.To), to)
}

// Remove takes one away.
func (f *Fanout) Remove(w io.Writer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.To = slices.DeleteFunc(slices.Clone(f.To), func(each Follower) bool { return each.Writer == w })
}

// Write is an error at the first Writer that fails. After that nothing is delivered any more.
func (f *Fanout) Write(p []byte) (int, error) {
	f.mu.Lock()
	to, at := f.To, f.At
	f.At += int64(len(p))
	f.mu.Unlock()
	for _, each := range to {
		skip := max(each.From-at, 0)
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

// End is called behind the last byte.
func (f *Fanout) End() error {
	f.mu.Lock()
	to := f.To
	f.mu.Unlock()
	for _, each := range to {
		if each.End != nil {
			if err := each.End(); err != nil {
				return err
			}
		}
	}
	return nil
}
