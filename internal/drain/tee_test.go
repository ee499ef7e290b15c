package drain

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// teed returns an output that keeps up to limit bytes and writes to w.
func teed(t testing.TB, p io.Reader, limit int, w io.Writer) (*Output, *HeadTail, *bell) {
	o, keep := capture(p, limit)
	b := newBell(t)
	require.True(t, o.Tee(w, b.ring))
	return o, keep, b
}

func TestTee(t *testing.T) {
	w := testproc.NewSlowWriter(func() {})
	o, keep, b := teed(t, reads("ab", "cde", "f"), 4, w)
	ended := 0
	o.AtEnd(func() error { ended++; return nil })
	pullAll(t, o, b)
	assert.Equal(t, "abcdef", string(w.Bytes()))
	head, tail := keep.Kept()
	assert.Equal(t, "ab|ef", string(head)+"|"+string(tail))
	assert.Equal(t, int64(6), o.Total())
	assert.Zero(t, o.Dropped(), "of what was to be delivered")
	assert.Equal(t, 1, ended)
	assert.True(t, o.Finish())
	assert.Equal(t, 1, ended)
}

// The Writer comes when some was kept already.
func TestTeeLater(t *testing.T) {
	o, keep := capture(reads("ab", "cde", "f"), 100)
	require.Equal(t, Moved, o.Pull(0))
	w, b := testproc.NewSlowWriter(func() {}), newBell(t)
	require.True(t, o.Tee(w, b.ring))
	o.Look(func(keep *HeadTail) {
		data, head := keep.Copy()
		assert.Equal(t, "ab", string(data))
		assert.Equal(t, 2, head)
	})
	pullAll(t, o, b)
	assert.Equal(t, "cdef", string(w.Bytes()))
	assert.Equal(t, "abcdef", string(keep.Bytes()))
	assert.Zero(t, o.Dropped())
}

// What a Writer does that fails or blocks is nothing to what is kept.
func TestTeeKeepsWhatAWriterRefuses(t *testing.T) {
	failed := errors.New("no more")
	o, keep, b := teed(t, reads("ab", "cde", "f"), 100, writerFunc(func([]byte) (int, error) { return 0, failed }))
	o.AtEnd(func() error { t.Error("a Writer that failed is called"); return nil })
	pullAll(t, o, b)
	assert.Equal(t, "abcdef", string(keep.Bytes()))
	assert.ErrorIs(t, o.Err(), failed)
	assert.Equal(t, int64(6), o.Dropped())

	w := testproc.NewStalledWriter()
	defer w.Release()
	o, keep, _ = teed(t, reads("a", "b", "c", "d"), 100, w)
	o.AtEnd(func() error { t.Error("a Writer that was left is called"); return nil })
	fill(t, o)
	o.Abandon()
	for o.Pull(0) != Ended {
	}
	assert.True(t, o.Finish())
	assert.Equal(t, "abcd", string(keep.Bytes()))
	o.Seal()
	o.retain([]byte("late"))
	assert.Equal(t, "abcd", string(keep.Bytes()))
}

// What is said at the end can fail as a Write can.
func TestAtEndFails(t *testing.T) {
	failed := errors.New("no end")
	o, b := stream(t, reads("ab"), io.MultiWriter(io.Discard))
	o.AtEnd(func() error { return failed })
	pullAll(t, o, b)
	assert.ErrorIs(t, o.Err(), failed)
}

func TestHeadTailCopy(t *testing.T) {
	for limit := range 9 {
		var b HeadTail
		b.Limit(limit)
		for n := range 3 * 9 {
			data, head := b.Copy()
			twin := HeadTail{limit: b.limit, buf: append([]byte(nil), b.buf...), next: b.next, total: b.total}
			h, tl := twin.Kept()
			require.Equal(t, string(h)+string(tl), string(data), "limit %d, %d bytes", limit, n)
			require.Equal(t, len(h), head)
			_, _ = b.Write([]byte{byte('a' + n)})
		}
	}
}
