package lines

import (
	"io"
	"sync"
)

// A Prefixer writes lines to another Writer, each with a prefix and in one Write together with others: so no other
// Prefixer's lines come in between. It is safe for concurrent use.
type Prefixer struct {
	w      io.Writer
	prefix string
	shared bool // w can be told from others

	mu    sync.Mutex
	split *Splitter
	out   []byte // lines that are complete, with their prefixes
	err   error  // of the last Write
}

// NewPrefixer returns a Prefixer that writes to w.
func NewPrefixer(w io.Writer, prefix string) *Prefixer {
	p := &Prefixer{w: w, prefix: prefix, shared: equal(w, w)}
	p.split = New(func(text []byte, _ bool) {
		p.out = append(append(append(p.out, p.prefix...), text...), '\n')
		if len(p.out) >= MaxPiece {
			p.flush()
		}
	})
	return p
}

// Write writes the lines that are complete, and keeps what follows them.
func (p *Prefixer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = nil
	_, _ = p.split.Write(b)
	p.flush()
	if p.err != nil {
		return 0, p.err
	}
	return len(b), nil
}

// Close writes the last line if it has no end. The Prefixer can be used again.
func (p *Prefixer) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = nil
	p.split.Flush()
	p.flush()
	return p.err
}

// flush writes what is complete. After an error nothing is written until the next call.
func (p *Prefixer) flush() {
	if len(p.out) > 0 && p.err == nil {
		p.err = p.write()
	}
	p.out = p.out[:0]
}

func (p *Prefixer) write() error {
	if p.shared {
		defer take(p.w).giveBack()
	}
	n, err := p.w.Write(p.out)
	if err == nil && n < len(p.out) {
		err = io.ErrShortWrite
	}
	return err
}

// turns has an entry for each Writer that is being written to, or waited for.
var turns = struct {
	sync.Mutex
	of map[io.Writer]*turn
}{of: map[io.Writer]*turn{}}

// A turn is the right to write to a Writer, which need not be safe for concurrent use.
type turn struct {
	w     io.Writer
	mu    sync.Mutex
	users int // guarded by turns
}

func take(w io.Writer) *turn {
	turns.Lock()
	t := turns.of[w]
	if t == nil {
		t = &turn{w: w}
		turns.of[w] = t
	}
	t.users++
	turns.Unlock()
	t.mu.Lock()
	return t
}

func (t *turn) giveBack() {
	t.mu.Unlock()
	turns.Lock()
	defer turns.Unlock()
	if t.users--; t.users == 0 {
		delete(turns.of, t.w)
	}
}

// equal compares two Writers, of types that may not be comparable.
func equal(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a == b
}
