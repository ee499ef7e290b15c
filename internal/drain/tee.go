package drain

import (
	"io"
	"sync"
)

// A tee belongs to an Output that both keeps and delivers. The goroutine that reads the pipe keeps the bytes before it
// delivers them.
type tee struct {
	mu     sync.Mutex
	sealed bool
	before int64 // bytes that came before there was a Writer
}

// Tee makes o, which captures, write to w as well what comes from now on, as [Output.Stream] does. What is kept does
// not depend on w. It reports false, and does nothing, while a read is under way that a process holds up.
func (o *Output) Tee(w io.Writer, notify func()) bool {
	if o.direct || o.held != nil {
		return false
	}
	o.tee = &tee{before: o.Total()}
	o.pump = newPump(w, notify)
	return true
}

// retain keeps p.
func (o *Output) retain(p []byte) {
	if t := o.tee; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.sealed {
			return
		}
	}
	_, _ = o.keep.Write(p)
}

// Seal has nothing kept any more: a read that was left behind may come back at any time.
func (o *Output) Seal() {
	if t := o.tee; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sealed = true
	}
}

// Look calls f with what is kept. What it does not contain has not been delivered yet, and is not until f returns.
func (o *Output) Look(f func(keep *HeadTail)) {
	if t := o.tee; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	f(o.keep)
}
