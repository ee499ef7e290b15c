package lines_test

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/lines"
)

// split returns the lines of chunks, with "…" behind those that go on.
func split(chunks ...string) []string {
	got := []string{}
	s := lines.New(func(text []byte, partial bool) {
		line := string(text)
		if partial {
			line += "…"
		}
		got = append(got, line)
	})
	for _, c := range chunks {
		_, _ = s.Write([]byte(c))
	}
	s.Flush()
	return got
}

func TestLines(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []string
		want []string
	}{
		{"nothing", nil, []string{}},
		{"one", []string{"a\n"}, []string{"a"}},
		{"an empty line", []string{"\n\na\n"}, []string{"", "", "a"}},
		{"the last has no end", []string{"a\nb"}, []string{"a", "b"}},
		{"in parts", []string{"a", "b", "\nc", "d\n"}, []string{"ab", "cd"}},
		{"Windows", []string{"a\r\nb\r\n\r\n"}, []string{"a", "b", ""}},
		{"Windows, cut between the two", []string{"a\r", "\nb\n"}, []string{"a", "b"}},
		{"progress, return last", []string{"1%\r2%\r", "3%\r\n"}, []string{"1%", "2%", "3%"}},
		{"progress, return first", []string{"\r1%", "\r2%", "\r3%\n"}, []string{"1%", "2%", "3%"}},
		{"returns alone", []string{"\r\r\ra\n"}, []string{"a"}},
		{"not UTF-8", []string{"\xff\xfe\x00\n\x80"}, []string{"\xff\xfe\x00", "\x80"}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, split(c.in...)) })
	}
}

func TestLongLine(t *testing.T) {
	max := strings.Repeat("x", lines.MaxPiece)
	assert.Equal(t, []string{max}, split(max+"\n"), "just fits")
	assert.Equal(t, []string{max}, split(max, "\n"), "just fits, and its end comes later")
	assert.Equal(t, []string{max + "…", "y", "z"}, split(max+"y\nz"))
	assert.Equal(t, []string{max + "…", "y", "z"}, split(max, "y\nz"))

	for _, r := range []string{"é", "€", "😀"} {
		for n := 1; n < len(r); n++ {
			cut := max[n:]
			assert.Equal(t, []string{cut + "…", r}, split(cut+r+"\n"), "a piece ends between two runes")
		}
	}

	whole := strings.Repeat("0123456789abcde\u00e9", 10<<20/17)
	var parts strings.Builder
	pieces := 0
	s := lines.New(func(text []byte, partial bool) {
		pieces++
		assert.True(t, utf8.Valid(text))
		assert.LessOrEqual(t, len(text), lines.MaxPiece)
		assert.Equal(t, parts.Len()+len(text) < len(whole), partial)
		parts.Write(text)
	})
	_, _ = s.Write([]byte(whole))
	s.Flush()
	assert.True(t, parts.String() == whole, "nothing is lost")
	assert.Greater(t, pieces, 10<<20/lines.MaxPiece-1)
}

// FuzzSplitter holds a Splitter against one that is given everything at once, and against bufio.Scanner
// where there are no returns.
func FuzzSplitter(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\n\n\r"), uint64(1))
	f.Add(bytes.Repeat([]byte("\r\n"), 9), uint64(2))
	f.Add(bytes.Repeat([]byte("é"), lines.MaxPiece), uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // to be repeated
		var chunks []string
		for rest := in; len(rest) > 0; {
			n := 1 + random.IntN(min(len(rest), 1+random.IntN(2*lines.MaxPiece)))
			chunks = append(chunks, string(rest[:n]))
			rest = rest[n:]
		}
		got := split(chunks...)
		require.Equal(t, split(string(in)), got)
		if bytes.IndexByte(in, '\r') < 0 {
			scanner := bufio.NewScanner(bytes.NewReader(in))
			scanner.Buffer(nil, len(in)+2)
			want := []string{}
			for scanner.Scan() {
				want = append(want, scanner.Text())
			}
			require.Equal(t, strings.Join(want, "\n"), strings.ReplaceAll(strings.Join(got, "\n"), "…\n", ""))
		}
	})
}

func TestSplitterAllocatesNothing(t *testing.T) {
	chunk := []byte(strings.Repeat("a line of some length\n", 100) + "and a part")
	s := lines.New(func([]byte, bool) {})
	_, _ = s.Write(chunk)
	assert.Zero(t, testing.AllocsPerRun(100, func() { _, _ = s.Write(chunk) }))
}

func BenchmarkLines(b *testing.B) {
	var in bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&in, "line %d of some hundred thousand\n", i)
	}
	b.Run("impl=scanner", func(b *testing.B) {
		for b.Loop() {
			scanner := bufio.NewScanner(bytes.NewReader(in.Bytes()))
			for scanner.Scan() {
				_ = scanner.Text()
			}
		}
	})
	b.Run("impl=safeexec", func(b *testing.B) {
		for b.Loop() {
			s := lines.New(func(text []byte, _ bool) { _ = string(text) })
			for rest := in.Bytes(); len(rest) > 0; {
				n := min(len(rest), 64<<10)
				_, _ = s.Write(rest[:n])
				rest = rest[n:]
			}
		}
	})
}
