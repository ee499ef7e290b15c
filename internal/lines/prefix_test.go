package lines_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/lines"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestPrefixer(t *testing.T) {
	var out bytes.Buffer
	p := lines.NewPrefixer(&out, "a | ")
	for _, part := range []string{"one\ntw", "o\n", "1%\r2%\r", "thr"} {
		n, err := io.WriteString(p, part)
		require.NoError(t, err)
		require.Equal(t, len(part), n)
	}
	assert.Equal(t, "a | one\na | two\na | 1%\na | 2%\n", out.String())
	require.NoError(t, p.Close())
	require.NoError(t, p.Close())
	assert.True(t, strings.HasSuffix(out.String(), "\na | thr\n"))

	out.Reset()
	long := strings.Repeat("x", lines.MaxPiece+1)
	_, _ = io.WriteString(p, long+"\n")
	assert.Equal(t, "a | "+long[1:]+"\na | x\n", out.String(), "a line that is too long is several")
}

// tornless notices a Write while another is under way, and one that is not of whole lines.
type tornless struct {
	t      *testing.T
	within bool // written to by all without a lock, for the race detector to see
	out    bytes.Buffer
}

func (w *tornless) Write(p []byte) (int, error) {
	assert.False(w.t, w.within)
	w.within = true
	assert.True(w.t, bytes.HasSuffix(p, []byte("\n")))
	_, _ = w.out.Write(p)
	w.within = false
	return len(p), nil
}

// values is a Writer that cannot be compared.
type values struct {
	io.Writer
	_ []int
}

func TestPrefixersOfOneWriter(t *testing.T) {
	w := &tornless{t: t}
	const writers, each = 16, 100
	var all sync.WaitGroup
	for i := range writers {
		p := lines.NewPrefixer(w, fmt.Sprintf("%02d | ", i))
		for half := range 2 { // two streams of one program
			all.Go(func() {
				for n := range each {
					text := fmt.Sprintf("%02d/%d/%d\n", i, half, n)
					_, err := p.Write([]byte(text))
					assert.NoError(t, err)
				}
			})
		}
	}
	all.Wait()
	got := strings.Split(strings.TrimSuffix(w.out.String(), "\n"), "\n")
	assert.Len(t, got, writers*2*each)
	for _, line := range got {
		require.Equal(t, line[:2], line[5:7], line)
	}

	var out bytes.Buffer
	p := lines.NewPrefixer(values{Writer: &out}, "| ")
	_, err := p.Write([]byte("a\n"))
	require.NoError(t, err)
	assert.Equal(t, "| a\n", out.String())
}

type broken struct{ err error }

func (b *broken) Write(p []byte) (int, error) { return len(p) / 2, b.err }

func TestPrefixerFails(t *testing.T) {
	w := &broken{}
	p := lines.NewPrefixer(w, "| ")
	_, err := p.Write([]byte("a\n"))
	require.ErrorIs(t, err, io.ErrShortWrite)
	w.err = errors.New("full")
	_, err = p.Write([]byte("a"))
	require.NoError(t, err, "nothing is complete")
	require.ErrorIs(t, p.Close(), w.err)
	require.NoError(t, p.Close())
}

// sizes is a Writer that notes how much each Write has.
type sizes []int

func (s *sizes) Write(p []byte) (int, error) {
	*s = append(*s, len(p))
	return len(p), nil
}

// What is written at once is bounded, and is not a line each.
func TestPrefixerWritesInPieces(t *testing.T) {
	var got sizes
	_, err := io.WriteString(lines.NewPrefixer(&got, "| "), strings.Repeat("some line\n", lines.MaxPiece))
	require.NoError(t, err)
	for _, n := range got[:len(got)-1] {
		assert.GreaterOrEqual(t, n, lines.MaxPiece)
		assert.Less(t, n, 2*lines.MaxPiece)
	}
}

// A gate is a Writer whose first Write waits for another to enter, which it must not, for a moment. That decides no test:
// what comes later than that is missed, not misjudged.
type gate struct {
	entered chan struct{} // capacity 2
	other   func()        // starts another Write
	torn    bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.entered <- struct{}{}
	if other := g.other; other != nil {
		g.other = nil
		<-g.entered
		other()
		select {
		case <-g.entered:
			g.torn = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	return len(p), nil
}

// One waits until the other has written.
func TestPrefixersTakeTurns(t *testing.T) {
	g := &gate{entered: make(chan struct{}, 2)}
	var others sync.WaitGroup
	g.other = func() {
		others.Go(func() {
			_, err := lines.NewPrefixer(g, "b | ").Write([]byte("b\n"))
			assert.NoError(t, err)
		})
	}
	_, err := lines.NewPrefixer(g, "a | ").Write([]byte("a\n"))
	require.NoError(t, err)
	others.Wait()
	assert.False(t, g.torn)
	assert.Len(t, g.entered, 1, "the other has written")
}

// Nothing of a Writer is kept once nobody writes to it.
func TestPrefixerLetsGoOfItsWriter(t *testing.T) {
	gone := make(chan struct{})
	func() {
		w := &sizes{}
		runtime.AddCleanup(w, func(gone chan struct{}) { close(gone) }, gone)
		_, err := lines.NewPrefixer(w, "| ").Write([]byte("a\n"))
		require.NoError(t, err)
	}()
	testproc.Wait(t, func() bool {
		runtime.GC()
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
}
