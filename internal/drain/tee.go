package drain

import (
	"io"
	"sync"
)

// A keeper keeps what an Output reads.
type keeper struct {
	keep *HeadTail
	tee  *tee // guards keep if a Writer gets the bytes as well; else nil
}

// A tee belongs to an Output that both keeps and delivers. The goroutine that reads the pipe keeps the bytes before it
// delivers them.
type tee struct {
	mu     sync.Mutex
	sealed bool
	before int64 // bytes that came before there was a Writer
}

// Tee makes an Output that captures write to w as well, as [Output.Stream] does, beginning with the next byte. What is
// kept does not depend on w. It reports false, and does nothing, while a process holds up a read.
func (o *Output) Tee(w io.Writer, notify func()) bool {
	if o.direct() || o.held != nil {
		return false
	}
	o.tee = &tee{before: o.Total()}
	o.pump = newPump(w, notify)
	return true
}

// retain keeps p.
func (k *keeper) retain(p []byte) {
	if t := k.tee; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.sealed {
			return
		}
	}
	_, _ = k.keep.Write(p)
}

// Seal ends the keeping: a read that was left behind may return at any time.
func (k *keeper) Seal() {
	if t := k.tee; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.sealed = true
	}
}

// Look calls f with what is kept. No byte that is not in it is delivered before f returns.
func (k *keeper) Look(f func(keep *HeadTail)) {
	if t := k.tee; t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
	}
	f(k.keep)
}
