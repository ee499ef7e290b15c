package drain

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func input(t testing.TB, sink io.Writer, r io.Reader) (*Input, *bell) {
	in, b := new(Input), newBell(t)
	in.Feed(sink, r, b.ring)
	return in, b
}

// pushAll pushes to the end as a run does: it waits for the bell where the Reader has nothing.
func pushAll(t testing.TB, in *Input, b *bell) {
	t.Helper()
	for {
		switch in.Push() {
		case Moved, Blocked:
		case Starved:
			b.wait(t)
		case Ended:
			return
		}
	}
}

// leave quits as a run does.
func leave(t testing.TB, in *Input, b *bell) {
	t.Helper()
	for !in.Quit() {
		b.wait(t)
	}
}

func TestInlineReaders(t *testing.T) {
	data := count(3*chunkSize + 1)
	for name, r := range map[string]io.Reader{
		"bytes.Reader":   bytes.NewReader(data),
		"bytes.Buffer":   bytes.NewBuffer(bytes.Clone(data)),
		"strings.Reader": strings.NewReader(string(data)),
	} {
		t.Run(name, func(t *testing.T) {
			var sink scriptedSink
			in, b := input(t, &sink, r)
			assert.Nil(t, in.feed, "needs no goroutine")
			pushAll(t, in, b)
			b.silent(t)
			assert.True(t, bytes.Equal(data, sink.got.Bytes()))
			assert.Equal(t, int64(len(data)), in.Written())
			assert.NoError(t, in.Err())
			assert.Nil(t, in.chunk, "the buffer was given back")
			assert.True(t, in.Quit())
		})
	}
}

func TestNothingIsReadBeforeTheFirstPush(t *testing.T) {
	r := strings.NewReader("abc")
	in, _ := input(t, new(scriptedSink), r)
	assert.Equal(t, 3, r.Len())
	assert.True(t, in.Quit())
	assert.Equal(t, 3, r.Len())
	assert.Equal(t, Ended, in.Push(), "and nothing after Quit")
	assert.Equal(t, 3, r.Len())
}

// The same tables for Readers that are read directly and by a goroutine.
func eachKind(t *testing.T, data string, f func(t *testing.T, r io.Reader)) {
	t.Run("direct", func(t *testing.T) { f(t, strings.NewReader(data)) })
	t.Run("goroutine", func(t *testing.T) {
		testproc.NoLeaks(t)
		f(t, struct{ io.Reader }{strings.NewReader(data)})
	})
}

func TestPartialWrites(t *testing.T) {
	eachKind(t, "abcdefgh", func(t *testing.T, r io.Reader) {
		sink := &scriptedSink{steps: []writeStep{{take: 1}, full, full, {take: 3}, {take: 2, err: syscall.EAGAIN}, {take: 1}, full}}
		in, b := input(t, sink, r)
		states := []State{Blocked, Blocked, Blocked, Blocked, Ended}
		for i, want := range states {
			got := in.Push()
			for got == Starved {
				b.wait(t)
				got = in.Push()
			}
			assert.Equal(t, want, got, i)
		}
		assert.Equal(t, "abcdefgh", sink.got.String())
		assert.Equal(t, int64(8), in.Written())
		assert.NoError(t, in.Err())
		leave(t, in, b)
	})
}

func TestPipeErrors(t *testing.T) {
	for name, c := range map[string]struct{ pipe, want error }{
		"EPIPE is the command's business": {syscall.EPIPE, nil},
		"others are not":                  {syscall.EIO, syscall.EIO},
	} {
		t.Run(name, func(t *testing.T) {
			eachKind(t, "abcdef", func(t *testing.T, r io.Reader) {
				sink := &scriptedSink{steps: []writeStep{{take: 2}, {err: c.pipe}}}
				in, b := input(t, sink, r)
				pushAll(t, in, b)
				assert.Equal(t, 2, sink.calls, "and nothing is written any more")
				assert.Equal(t, int64(2), in.Written())
				if c.want == nil {
					assert.NoError(t, in.Err())
				} else {
					assert.ErrorIs(t, in.Err(), c.want)
				}
				leave(t, in, b)
				assert.Equal(t, 2, sink.calls)
			})
		})
	}
}

// A readerFunc is no type that is known not to block.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReaderOutcomes(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name  string
		steps []readStep // as of the Reader; the last is repeated
		got   string
		err   error
	}{
		{"end", []readStep{{err: io.EOF}}, "", nil},
		{"data, then the end", []readStep{{data: "ab"}, {data: "c"}, {err: io.EOF}}, "abc", nil},
		{"data with the end", []readStep{{data: "ab"}, {data: "c", err: io.EOF}}, "abc", nil},
		{"error", []readStep{{err: boom}}, "", boom},
		{"data with an error", []readStep{{data: "ab", err: boom}}, "ab", boom},
		{"nothing for a while", []readStep{{}, {}, {data: "a"}, {}, {data: "b"}, {err: io.EOF}}, "ab", nil},
		{"nothing for ever", []readStep{{data: "a"}, {}}, "a", io.ErrNoProgress},
		{"a wrapped end is none to io.Reader, but to us", []readStep{{err: &wrapped{io.EOF}}}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			testproc.NoLeaks(t)
			i := 0
			var sink scriptedSink
			in, b := input(t, &sink, readerFunc(func(p []byte) (int, error) {
				s := c.steps[min(i, len(c.steps)-1)]
				i++
				return copy(p, s.data), s.err
			}))
			pushAll(t, in, b)
			assert.Equal(t, c.got, sink.got.String())
			if c.err == nil {
				assert.NoError(t, in.Err())
			} else {
				assert.ErrorIs(t, in.Err(), c.err)
			}
			leave(t, in, b)
			assert.Nil(t, in.chunk)
		})
	}
}

type wrapped struct{ error }

func (w *wrapped) Unwrap() error { return w.error }

func TestReaderImpossibleCounts(t *testing.T) {
	testproc.NoLeaks(t)
	for _, n := range []int{-1, chunkSize + 1, math.MaxInt} {
		var sink scriptedSink
		in, b := input(t, &sink, readerFunc(func([]byte) (int, error) { return n, nil }))
		pushAll(t, in, b)
		assert.ErrorIs(t, in.Err(), errInvalidRead)
		assert.Zero(t, sink.calls)
		leave(t, in, b)
	}
}

// Empty reads are counted in a row: a Reader that gives something now and then is none that gives
// nothing for ever.
func TestEmptyReadsInARow(t *testing.T) {
	i, rounds := 0, 5
	var sink scriptedSink
	in, b := input(t, &sink, readerFunc(func(p []byte) (int, error) {
		if i++; i%maxEmptyReads != 0 {
			return 0, nil
		}
		if i/maxEmptyReads > rounds {
			return 0, io.EOF
		}
		return copy(p, "x"), nil
	}))
	pushAll(t, in, b)
	assert.NoError(t, in.Err())
	assert.Equal(t, strings.Repeat("x", rounds), sink.got.String())
	leave(t, in, b)
}

func TestBlockedKeepsWhatIsPending(t *testing.T) {
	sink := &scriptedSink{steps: []writeStep{full}}
	in, _ := input(t, sink, strings.NewReader("abc"))
	require.Equal(t, Blocked, in.Push())
	require.NotNil(t, in.chunk)
	assert.True(t, in.Quit())
	assert.Nil(t, in.chunk, "Quit gives the buffer back")
	assert.Zero(t, in.Written())
}
