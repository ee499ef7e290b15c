package drain

import (
	"bytes"
	"slices"
)

// A HeadTail keeps the first and the last bytes of what is written to it, up to a limit, and counts
// the rest. Half of the limit is the head, half the tail. Its memory grows with what it keeps and
// never exceeds the limit.
//
// It has no ReadFrom: a promoted ReadFrom is how caps in front of bytes.Buffer are bypassed.
type HeadTail struct {
	limit int
	// buf is the head followed by the tail. Until limit bytes have come it is simply what came.
	// Afterwards buf[head:] is a ring whose oldest byte is at next.
	buf   []byte
	next  int
	total int64
	// lent is how much of Space a read that has not returned may still write to.
	lent int
	// split is the length of the head in a buf that Kept has made without such a part; zero otherwise.
	split int
}

// Limit sets how many bytes are kept, before the first Write. The zero HeadTail keeps none.
func (b *HeadTail) Limit(limit int) { b.limit = limit }

// head is the length of the head, once the buffer is full.
func (b *HeadTail) head() int { return b.limit - b.limit/2 }

// Write takes all of p; it never fails.
func (b *HeadTail) Write(p []byte) (int, error) {
	n := len(p)
	b.total += int64(n)
	if room := b.limit - len(b.buf); room > 0 {
		take := min(room, len(p))
		b.grow(take)
		b.buf = append(b.buf, p[:take]...)
		p = p[take:]
		b.next = b.head()
	}
	ring := b.buf[min(b.head(), len(b.buf)):]
	if len(p) == 0 || len(ring) == 0 {
		return n, nil
	}
	if skip := len(p) - len(ring); skip > 0 {
		// Only the last len(ring) bytes can stay. The skipped ones would have moved next along.
		b.next = b.head() + (b.next-b.head()+skip)%len(ring)
		p = p[skip:]
	}
	for len(p) > 0 {
		c := copy(b.buf[b.next:], p)
		p = p[c:]
		if b.next += c; b.next == len(b.buf) {
			b.next = b.head()
		}
	}
	return n, nil
}

// grow makes room for n more bytes without going beyond the limit as append would.
func (b *HeadTail) grow(n int) {
	need := len(b.buf) + n
	if need <= cap(b.buf) {
		return
	}
	size := min(max(need, 2*cap(b.buf)), b.limit)
	grown := make([]byte, len(b.buf), size)
	copy(grown, b.buf)
	b.buf = grown
}

// minSpace is the least that is worth a read into the buffer itself.
const minSpace = 16 << 10

// Space returns a part of the buffer that the next bytes may be read into, to be told to Took: what
// is copied twice costs a third more. It is nil where Write is to be called.
func (b *HeadTail) Space() []byte {
	space := b.buf[len(b.buf):cap(b.buf)]
	if len(b.buf) == b.limit {
		space = b.buf[b.next:] // empty where there is no ring
	}
	if len(space) < minSpace {
		return nil
	}
	return space
}

// Took says that n bytes were read into what Space returned.
func (b *HeadTail) Took(n int) {
	b.total += int64(n)
	if len(b.buf) < b.limit {
		b.buf = b.buf[:len(b.buf)+n]
		b.next = b.head()
		return
	}
	if b.next += n; b.next == len(b.buf) {
		b.next = b.head()
	}
}

// Lend says that a read into the first n bytes of Space has not returned; with 0, that none is under way.
func (b *HeadTail) Lend(n int) { b.lent = n }

// Lent reports whether a read into Space has not returned.
func (b *HeadTail) Lent() bool { return b.lent > 0 }

// Kept puts the ring in order and returns the head and the tail. The head is all that came, and
// the tail empty, when nothing was dropped. Both alias the buffer, which takes no more writes. A read that has not
// returned may write at any time, also after this: what it may write to is left out.
func (b *HeadTail) Kept() (head, tail []byte) {
	if b.lent > 0 {
		b.buf, b.split = b.Copy()
		b.lent = 0
	}
	if b.split > 0 {
		return b.buf[:b.split:b.split], b.buf[b.split:]
	}
	if b.total <= int64(b.limit) {
		return b.buf, nil
	}
	h := b.head()
	if b.next != h {
		rotate(b.buf[h:], b.next-h)
		b.next = h
	}
	return b.buf[:h:h], b.buf[h:]
}

// Copy returns copies of what Kept returns, one behind the other, and the length of the first. The buffer may be
// written to afterwards.
func (b *HeadTail) Copy() (data []byte, head int) {
	if b.total <= int64(b.limit) && (b.lent == 0 || len(b.buf) < b.limit) {
		return bytes.Clone(b.buf), len(b.buf)
	}
	return slices.Concat(b.buf[:b.head()], b.buf[b.next+b.lent:], b.buf[b.head():b.next]), b.head()
}

// Bytes returns what Kept returns, the tail right behind the head.
func (b *HeadTail) Bytes() []byte { return b.buf }

// Total returns how many bytes were written.
func (b *HeadTail) Total() int64 { return b.total }

// rotate moves the first k bytes of p to its end, in place: three reversals.
func rotate(p []byte, k int) {
	reverse(p[:k])
	reverse(p[k:])
	reverse(p)
}

func reverse(p []byte) {
	for i, j := 0, len(p)-1; i < j; i, j = i+1, j-1 {
		p[i], p[j] = p[j], p[i]
	}
}
