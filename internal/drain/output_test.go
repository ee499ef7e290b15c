package drain

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// capture returns an output that keeps up to limit bytes.
func capture(p io.Reader, limit int) (*Output, *HeadTail) {
	o, b := new(Output), new(HeadTail)
	b.Limit(limit)
	o.Capture(p, b)
	return o, b
}

// stream returns an output that writes to w.
func stream(t testing.TB, p io.Reader, w io.Writer) (*Output, *bell) {
	o, b := new(Output), newBell(t)
	o.Stream(p, w, b.ring)
	return o, b
}

// pullAll pulls to the end and until all is delivered, as a run does. It waits for the bell, and for
// nothing else, whenever there is something to wait for.
func pullAll(t testing.TB, o *Output, b *bell) {
	t.Helper()
	for {
		switch o.Pull(0) {
		case Moved:
		case Starved:
			t.Fatal("starved")
		case Blocked:
			b.wait(t)
		case Ended:
			for !o.Finish() {
				b.wait(t)
			}
			return
		}
	}
}

func TestPullStates(t *testing.T) {
	p := &scriptedPipe{steps: []readStep{
		nothingYet, {data: "ab"}, nothingYet, nothingYet, {data: "cde"}, {data: "f", err: syscall.EAGAIN}, nothingYet,
	}}
	o, keep := capture(p, 100)
	want := []State{Starved, Moved, Starved, Starved, Moved, Moved, Starved, Ended, Ended}
	for i, state := range want {
		assert.Equal(t, state, o.Pull(0), i)
		assert.Equal(t, state == Ended, o.Ended(), i)
	}
	assert.Len(t, p.asked, len(want)-1, "after the end nothing is read")
	assert.Equal(t, "abcdef", string(keep.Bytes()))
	assert.Equal(t, int64(6), o.Total())
	assert.Zero(t, o.Dropped())
	assert.NoError(t, o.Err())
	assert.True(t, o.Finish())
	assert.Zero(t, o.Busy())
	o.Abandon()
}

func TestPullReadsAtMostLimit(t *testing.T) {
	p := reads(string(count(5 * chunkSize)))
	o, _ := capture(p, 10)
	for _, limit := range []int{1, 7, chunkSize, chunkSize + 1, 0, -1} {
		require.Equal(t, Moved, o.Pull(limit))
	}
	assert.Equal(t, []int{1, 7, chunkSize, chunkSize, chunkSize, chunkSize}, p.asked)
	assert.Equal(t, int64(8+4*chunkSize), o.Total())
}

func TestPullError(t *testing.T) {
	boom := errors.New("boom")
	var sink bytes.Buffer
	for name, open := range map[string]func(io.Reader) *Output{
		"captured": func(p io.Reader) *Output { o, _ := capture(p, 10); return o },
		"inline":   func(p io.Reader) *Output { o, _ := stream(t, p, &sink); return o },
	} {
		t.Run(name, func(t *testing.T) {
			o := open(&scriptedPipe{steps: []readStep{{data: "a"}, {err: boom}, {data: "never"}}})
			assert.Equal(t, Moved, o.Pull(0))
			assert.Equal(t, Ended, o.Pull(0))
			assert.Equal(t, Ended, o.Pull(0))
			assert.ErrorIs(t, o.Err(), boom)
			assert.Equal(t, int64(1), o.Total())
			assert.Zero(t, o.Dropped(), "what came before the error was delivered")
		})
	}
}

func TestInlineWriters(t *testing.T) {
	var buffer bytes.Buffer
	var builder strings.Builder
	for _, c := range []struct {
		name string
		w    io.Writer
		got  func() string
	}{
		{"bytes.Buffer", &buffer, buffer.String},
		{"strings.Builder", &builder, builder.String},
		{"io.Discard", io.Discard, func() string { return "abc" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, b := stream(t, reads("a", "bc"), c.w)
			assert.Nil(t, o.pump, "needs no goroutine")
			pullAll(t, o, b)
			b.silent(t)
			assert.Equal(t, "abc", c.got())
			assert.Equal(t, int64(3), o.Total())
			assert.Zero(t, o.Dropped())
			assert.NoError(t, o.Err())
		})
	}
}

// wayAround is the classic bug of a cap in front of a bytes.Buffer: it counts in Write, and promotes
// the buffer's ReadFrom. Neither it nor WriteString may be called.
type wayAround struct {
	bytes.Buffer
	writes int
}

func (w *wayAround) Write(p []byte) (int, error)            { w.writes++; return w.Buffer.Write(p) }
func (w *wayAround) ReadFrom(io.Reader) (int64, error)      { panic("ReadFrom") }
func (w *wayAround) WriteString(string) (int, error)        { panic("WriteString") }
func (w *wayAround) WriteTo(io.Writer) (n int64, err error) { panic("WriteTo") }

func TestOnlyWriteIsCalled(t *testing.T) {
	w := new(wayAround)
	o, b := stream(t, reads("a", "b", "c"), w)
	require.NotNil(t, o.pump, "a type of the caller's may block")
	pullAll(t, o, b)
	assert.Equal(t, 3, w.writes, "one Write for each read")
	assert.Equal(t, "abc", w.String())
}

// A writerFunc is no type that is known not to block.
type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestStopAt(t *testing.T) {
	const written = "abcdefgh"
	for at := int64(0); at <= int64(len(written))+1; at++ {
		for size := 1; size <= len(written); size++ {
			var pieces []string
			for s := written; s != ""; {
				n := min(size, len(s))
				pieces, s = append(pieces, s[:n]), s[n:]
			}
			delivered := written[:min(at, int64(len(written)))]
			check := func(t *testing.T, o *Output, b *bell, got func() string) {
				o.StopAt(at)
				pullAll(t, o, b)
				assert.Equal(t, delivered, got())
				assert.Equal(t, int64(len(written)), o.Total(), "all is read and counted")
				assert.Equal(t, int64(len(written)-len(delivered)), o.Dropped())
				assert.Equal(t, at < int64(len(written)), o.Exceeded())
				assert.NoError(t, o.Err())
			}
			t.Run(fmt.Sprintf("%d by %d", at, size), func(t *testing.T) {
				o, keep := capture(reads(pieces...), 100)
				check(t, o, nil, func() string { return string(keep.Bytes()) })

				var buffer bytes.Buffer
				o, b := stream(t, reads(pieces...), &buffer)
				check(t, o, b, buffer.String)

				slow := testproc.NewSlowWriter(func() {})
				o, b = stream(t, reads(pieces...), slow)
				check(t, o, b, func() string { return string(slow.Bytes()) })
			})
		}
	}
}

func TestExceededOnlyBeyondTheLimit(t *testing.T) {
	o, _ := capture(reads("ab", "c"), 10)
	o.StopAt(2)
	assert.False(t, o.Exceeded())
	o.Pull(0)
	assert.False(t, o.Exceeded(), "as much as allowed")
	o.Pull(0)
	assert.True(t, o.Exceeded())
}

func TestFailingWriters(t *testing.T) {
	boom := errors.New("boom")
	for _, c := range []struct {
		name      string
		write     func(p []byte) (int, error)
		err       error
		delivered int64
	}{
		{"error", func([]byte) (int, error) { return 0, boom }, boom, 0},
		{"error after a part", func([]byte) (int, error) { return 1, boom }, boom, 1},
		{"error after all", func(p []byte) (int, error) { return len(p), boom }, boom, 2},
		{"short count", func([]byte) (int, error) { return 1, nil }, io.ErrShortWrite, 1},
		{"nothing", func([]byte) (int, error) { return 0, nil }, io.ErrShortWrite, 0},
		{"more than there was", func(p []byte) (int, error) { return len(p) + 1, nil }, errInvalidWrite, 0},
		{"less than nothing", func([]byte) (int, error) { return -1, nil }, errInvalidWrite, 0},
		{"impossible with an error", func([]byte) (int, error) { return -1, boom }, errInvalidWrite, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			o, b := stream(t, reads("ab", "cd", "ef"), writerFunc(func(p []byte) (int, error) {
				calls++
				return c.write(p)
			}))
			pullAll(t, o, b)
			assert.Equal(t, 1, calls, "a Writer that failed is not called again")
			assert.ErrorIs(t, o.Err(), c.err)
			assert.Equal(t, int64(6), o.Total(), "the command is read to its end all the same")
			assert.Equal(t, 6-c.delivered, o.Dropped())
		})
	}
}

// The Writer's error says more than that of a pipe which ended because of it.
func TestWritersErrorGoesFirst(t *testing.T) {
	boom := errors.New("boom")
	p := &scriptedPipe{steps: []readStep{{data: "a"}, {err: syscall.EIO}}}
	o, b := stream(t, p, writerFunc(func([]byte) (int, error) { return 0, boom }))
	pullAll(t, o, b)
	assert.ErrorIs(t, o.Err(), boom)
	assert.NotErrorIs(t, o.Err(), syscall.EIO)
}
