package drain

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// modelKept is what a HeadTail has to keep of all, in the plainest words.
func modelKept(all []byte, limit int) (head, tail []byte) {
	if len(all) <= limit {
		return all, nil
	}
	t := limit / 2
	return all[:limit-t], all[len(all)-t:]
}

// checkHeadTail writes all in pieces and compares what is kept with the model.
func checkHeadTail(t testing.TB, all []byte, limit int, pieces func(left int) int) {
	t.Helper()
	var b HeadTail
	b.Limit(limit)
	scratch := make([]byte, len(all))
	for rest := all; len(rest) > 0; {
		p := scratch[:pieces(len(rest))]
		copy(p, rest)
		var n int
		if space := b.Space(); space != nil {
			n = copy(space, p)
			b.Took(n)
		} else {
			var err error
			n, err = b.Write(p)
			require.NoError(t, err)
			require.Equal(t, len(p), n)
		}
		clear(p) // what it keeps is its own
		rest = rest[n:]
		require.Equal(t, int64(len(all)-len(rest)), b.Total())
		require.LessOrEqual(t, cap(b.buf), limit, "memory is bounded at every moment")
	}
	wantHead, wantTail := modelKept(all, limit)
	for range 2 { // asking changes nothing
		head, tail := b.Kept()
		require.Equal(t, string(wantHead), string(head))
		require.Equal(t, string(wantTail), string(tail))
		require.Equal(t, string(wantHead)+string(wantTail), string(b.Bytes()))
		require.LessOrEqual(t, cap(b.Bytes()), limit)
	}
	if head, tail := b.Kept(); len(tail) > 0 {
		// An append to the head must not write into the tail.
		_ = append(head, "overwritten"...)
		require.Equal(t, string(wantTail), string(tail))
	}
}

// count is a stream in which every position is told from its neighbors, over a period that is a
// multiple of no limit in use.
func count(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i % 251)
	}
	return p
}

func TestHeadTailAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, limit := range []int{0, 1, 2, 3, 4, 5, 7, 16, 17, 63, 1000, 1001, 64<<10 + 1} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			sizes := []int{0, 1, limit - 1, limit, limit + 1, limit + limit/2, 2 * limit, 2*limit + 1, 3*limit + 5}
			for _, size := range sizes {
				if size < 0 {
					continue
				}
				all := count(size)
				checkHeadTail(t, all, limit, func(left int) int { return left })
				for _, fixed := range []int{1, 2, 3, limit/2 + 1, limit + 1} {
					if size/fixed > 4096 {
						continue
					}
					checkHeadTail(t, all, limit, func(left int) int { return min(left, fixed) })
				}
				for range 20 {
					largest := 1 + rng.IntN(size+2)
					if size/largest > 1000 {
						continue
					}
					checkHeadTail(t, all, limit, func(left int) int { return 1 + rng.IntN(min(left, largest)) })
				}
			}
		})
	}
}

func FuzzHeadTail(f *testing.F) {
	f.Add([]byte(nil), uint16(0), []byte(nil))
	f.Add([]byte("x"), uint16(0), []byte{1})
	f.Add([]byte("abc"), uint16(1), []byte{1, 2})
	f.Add([]byte("abcdef"), uint16(2), []byte{2, 1, 3})
	f.Add([]byte("abcdefghij"), uint16(3), []byte{4, 1})
	f.Add([]byte("abcdefghijklmnopq"), uint16(5), []byte{6, 9, 1})
	f.Add(count(300), uint16(100), []byte{99, 1, 1, 120, 79})
	f.Add(count(1000), uint16(999), []byte{0, 255})
	f.Fuzz(func(t *testing.T, all []byte, limit uint16, cuts []byte) {
		i := 0
		checkHeadTail(t, all, int(limit), func(left int) int {
			n := left
			if len(cuts) > 0 {
				n = 1 + int(cuts[i%len(cuts)])
				i++
			}
			return min(left, n)
		})
	})
}

func TestHeadTailZero(t *testing.T) {
	var b HeadTail
	n, err := b.Write([]byte("lost"))
	assert.NoError(t, err)
	assert.Equal(t, 4, n)
	head, tail := b.Kept()
	assert.Empty(t, head)
	assert.Empty(t, tail)
	assert.Empty(t, b.Bytes())
	assert.Equal(t, int64(4), b.Total())
}

func TestHeadTailEmptyWrite(t *testing.T) {
	var b HeadTail
	b.Limit(4)
	for _, s := range []string{"", "ab", "", "cdef", "", "g", ""} {
		n, err := b.Write([]byte(s))
		assert.NoError(t, err)
		assert.Equal(t, len(s), n)
	}
	head, tail := b.Kept()
	assert.Equal(t, "ab", string(head))
	assert.Equal(t, "fg", string(tail))
}

// A little output must not cost the memory of a large limit.
func TestHeadTailGrowsWithWhatItKeeps(t *testing.T) {
	var b HeadTail
	b.Limit(1 << 30)
	for range 100 {
		b.Write([]byte("0123456789"))
		assert.LessOrEqual(t, cap(b.buf), 2*len(b.buf))
	}
}

// io.Copy goes around Write where there is a ReadFrom, and with it around the limit.
func TestHeadTailHasNoWayAround(t *testing.T) {
	var w io.Writer = new(HeadTail)
	_, ok := w.(io.ReaderFrom)
	assert.False(t, ok)
	_, ok = w.(io.StringWriter)
	assert.False(t, ok)

	b := new(HeadTail)
	b.Limit(10)
	n, err := io.Copy(b, bytes.NewReader(count(100_000)))
	assert.NoError(t, err)
	assert.Equal(t, int64(100_000), n)
	assert.Len(t, b.Bytes(), 10)
}

// Reads into the buffer itself, in pieces that end anywhere in it.
func TestSpace(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	all := count(1_000_003)
	for _, limit := range []int{1, minSpace - 1, minSpace, 2 * minSpace, 2*minSpace + 1, 100_001, 1 << 19, 1_000_003} {
		for range 3 {
			checkHeadTail(t, all, limit, func(left int) int { return min(left, 1+rng.IntN(chunkSize)) })
		}
	}
	var b HeadTail
	b.Limit(2 * minSpace)
	assert.Nil(t, b.Space(), "nothing is set aside before anything came")
	_, _ = b.Write(make([]byte, 2*minSpace))
	assert.Len(t, b.Space(), minSpace, "the tail; the head is full")
}

// A read that was left behind may write into the ring at any time: what it may write to is left out, the rest is whole.
func TestHeadTailLeavesOutWhatIsLent(t *testing.T) {
	const limit, lent = 1 << 16, 20_000
	for _, total := range []int{limit - 30_000, limit, limit + 5000} {
		var b HeadTail
		b.Limit(limit)
		all := make([]byte, total)
		for i := range all {
			all[i] = byte(i % 251)
		}
		_, _ = b.Write(all)
		space := b.Space()
		if space = space[:min(lent, len(space))]; total >= limit {
			require.Len(t, space, lent)
		}
		scribble := func() {
			for i := range space {
				space[i] = 0xff
			}
		}
		b.Lend(lent)
		scribble()
		data, split := b.Copy()
		head, tail := b.Kept()
		scribble()
		assert.Equal(t, data, b.Bytes())
		assert.Len(t, head, split)
		assert.Equal(t, all[:len(head)], head)
		assert.Equal(t, all[total-len(tail):], tail)
		if total < limit {
			assert.Len(t, head, total)
			continue
		}
		assert.Len(t, head, limit/2)
		assert.Len(t, tail, limit/2-lent)
		again, rest := b.Kept()
		assert.Equal(t, [][]byte{head, tail}, [][]byte{again, rest})
	}
}
