package procfs

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// splitLines is the naive model of type lines.
func splitLines(data []byte) (want []string) {
	for _, l := range strings.SplitAfter(string(data), "\n") {
		if l, ended := strings.CutSuffix(l, "\n"); ended {
			want = append(want, l[:min(len(l), maxLine)])
		}
	}
	return want
}

// feed hands data to lines in chunks of the given size and stops after most lines.
func feed(data []byte, size, most int) (got []string, carry int) {
	l := lines{visit: func(line []byte) bool {
		got = append(got, string(line))
		return len(got) < most
	}}
	for chunk := range bytesChunks(data, size) {
		carry = max(carry, cap(l.carry))
		if !l.add(chunk) {
			break
		}
	}
	return got, carry
}

// bytesChunks yields chunks in one buffer, which it overwrites, as a reader does.
func bytesChunks(data []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		buf := make([]byte, size)
		for len(data) > 0 {
			n := copy(buf, data)
			if !yield(buf[:n]) {
				return
			}
			data = data[n:]
			clear(buf)
		}
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine-1)
	for _, text := range []string{
		"", "\n", "a", "a\n", "a\nb", "\n\na\n\n", "ab\ncd\nef\n", long + "\ny\n", long + "y\nz\n",
		long + "yz\nz\n", long + long + long + "\nz\n", "q\n" + long + long,
	} {
		for _, size := range []int{1, 2, 3, 7, maxLine - 1, maxLine, maxLine + 1, 3 * maxLine} {
			got, carry := feed([]byte(text), size, 1<<30)
			assert.Equal(t, splitLines([]byte(text)), got, "chunks of %d", size)
			assert.LessOrEqual(t, carry, 2*maxLine)
		}
	}
	got, _ := feed([]byte("a\nb\nc\n"), 100, 2)
	assert.Equal(t, []string{"a", "b"}, got)
	got, _ = feed([]byte("a\nb\nc\n"), 1, 2)
	assert.Equal(t, []string{"a", "b"}, got)
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("ab\ncd\n\nef"), uint(3), 2)
	f.Fuzz(func(t *testing.T, data []byte, size uint, most int) {
		most = max(most, 1)
		want := splitLines(data)
		got, _ := feed(data, int(size%9000)+1, most)
		require.Equal(t, want[:min(len(want), most)], got[:len(got):len(got)])
	})
}

func TestParseRows(t *testing.T) {
	letter := func(line []byte) (string, error) {
		if len(line) != 1 {
			return "", malformed("test", string(line))
		}
		return string(line), nil
	}
	rows, err := parseRows("test", []byte("a\nb\n"), letter)
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, rows)
	rows, err = parseRows("test", []byte("a\nxx\nb\n\nc\n"), letter)
	assert.ErrorIs(t, err, ErrSyntax)
	assert.ErrorContains(t, err, "xx", "the first")
	assert.Equal(t, []string{"a", "b", "c"}, rows)
	rows, err = parseRows("test", []byte("a\nb"), letter)
	assert.ErrorIs(t, err, ErrSyntax)
	assert.Equal(t, []string{"a"}, rows)
	rows, err = parseRows("test", nil, letter)
	require.NoError(t, err)
	assert.Empty(t, rows)
}

// everyCut calls check with each proper prefix of text.
func everyCut(text string, check func(prefix []byte)) {
	for i := range len(text) {
		check(bytes.Clone([]byte(text[:i])))
	}
}
