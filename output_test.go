//go:build linux

package safeexec_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// TestCapture compares what is kept with the pattern that was written, around the limit.
func TestCapture(t *testing.T) {
	t.Parallel()
	fd := 1
	for _, limit := range []int64{0, 1, 2, 3, 1000, 200_001} {
		for _, size := range []int64{0, 1, limit - 1, limit, limit + 1, limit + limit/2, 10 * limit} {
			if size < 0 {
				continue
			}
			fd = 3 - fd // in turn: what keeps both is the same
			res, err := safeexec.Run(t.Context(), testproc.Command("spew", strconv.FormatInt(size, 10), strconv.Itoa(fd)),
				safeexec.WithTimeout(testrun.Bound), safeexec.WithOutputLimit(limit))
			require.NoError(t, err)
			got, other := &res.Stdout, &res.Stderr
			if fd == 2 {
				got, other = other, got
			}
			name := fmt.Sprintf("limit %d, size %d, fd %d", limit, size, fd)
			kept := min(size, limit)
			assert.Equal(t, size, got.Total, name)
			assert.Equal(t, size-kept, got.Dropped, name)
			require.Len(t, got.Bytes(), int(kept), name)
			assert.Equal(t, got.Bytes(), append(bytes.Clone(got.Head()), got.Tail()...), name)
			assert.NoError(t, testproc.CheckPattern(got.Head(), 0), name)
			assert.NoError(t, testproc.CheckPattern(got.Tail(), size-int64(len(got.Tail()))), name)
			if size <= limit {
				assert.Empty(t, got.Tail(), name)
			} else {
				assert.InDelta(t, len(got.Head()), len(got.Tail()), 1, name)
			}
			assert.Zero(t, other.Total, name)
			assert.Empty(t, other.Bytes(), name)
		}
	}
}

func TestStreamString(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		script string
		limit  int64
		want   string
	}{
		{"printf ' M a\\n?? b \\n\\n'", 100, " M a\n?? b "},
		{"printf ''", 100, ""},
		{"printf ' \\n '", 100, " \n "},
		{"printf 'abcdefghij'", 4, "ab\n[6 bytes dropped]\nij"},
		{"printf ' bcdefghi\\n'", 4, " b\n[6 bytes dropped]\ni"},
		{"printf 'a\\303\\244xxxx\\303\\244b'", 4, "a\n[8 bytes dropped]\nb"},
	} {
		res, err := testrun.Run(t, exec.Command("sh", "-c", test.script), safeexec.WithOutputLimit(test.limit))
		require.NoError(t, err)
		assert.Equal(t, test.want, res.Stdout.String())
	}
}

func TestOutputIsTruncated(t *testing.T) {
	t.Parallel()
	out, err := safeexec.Output(t.Context(), testproc.Command("spew", "1000"),
		safeexec.WithTimeout(testrun.Bound), safeexec.WithOutputLimit(100))
	assert.ErrorIs(t, err, safeexec.ErrOutputLimit)
	require.Len(t, out, 100)
	assert.NoError(t, testproc.CheckPattern(out[:50], 0))
	assert.NoError(t, testproc.CheckPattern(out[50:], 950))

	out, err = safeexec.Output(t.Context(), exec.Command("sh", "-c", "echo out; echo problem >&2; exit 3"), safeexec.WithTimeout(testrun.Bound))
	assert.Equal(t, "out\n", string(out))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, "problem\n", string(exit.Stderr))
}

// A soleWriter notices when two calls of Write are under way at once.
type soleWriter struct {
	mu      sync.Mutex
	overlap bool
	bytes.Buffer
}

func (w *soleWriter) Write(p []byte) (int, error) {
	if !w.mu.TryLock() {
		w.overlap = true
		return len(p), nil
	}
	defer w.mu.Unlock()
	return w.Buffer.Write(p)
}

// alternating writes to both streams in turn and says, of each line, which it is.
const alternating = "for i in 1 2 3 4 5 6 7 8 9; do echo $i out; echo $i err >&2; done"

func TestSameWriterTwice(t *testing.T) {
	t.Parallel()
	var want strings.Builder
	for i := 1; i < 10; i++ {
		fmt.Fprintf(&want, "%d out\n%d err\n", i, i)
	}
	writer := new(soleWriter)
	cmd := exec.Command("sh", "-c", alternating)
	cmd.Stdout, cmd.Stderr = writer, writer
	_, err := testrun.Run(t, cmd)
	require.NoError(t, err)
	assert.Equal(t, want.String(), writer.String())
	assert.False(t, writer.overlap)

	out, err := safeexec.CombinedOutput(t.Context(), exec.Command("sh", "-c", alternating), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	assert.Equal(t, want.String(), string(out))

	// Writers that cannot be compared are two.
	cmd = exec.Command("sh", "-c", alternating)
	cmd.Stdout, cmd.Stderr = incomparable{io.Discard}, incomparable{io.Discard}
	res, err := testrun.Run(t, cmd)
	require.NoError(t, err)
	assert.Equal(t, res.Stdout.Total, res.Stderr.Total)
}

type incomparable []io.Writer

func (w incomparable) Write(p []byte) (int, error) { return w[0].Write(p) }

// TestFileIsHandedOver sees the command write to the very file.
func TestFileIsHandedOver(t *testing.T) {
	t.Parallel()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer out.Close()
	cmd := exec.Command("sh", "-c", "test -f /dev/stdout && echo file; test -p /dev/stderr && echo pipe >&2")
	cmd.Stdout = out
	res, err := testrun.Run(t, cmd)
	require.NoError(t, err)
	assert.Equal(t, safeexec.Stream{}, res.Stdout)
	assert.Equal(t, "pipe", res.Stderr.String())
	text, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	assert.Equal(t, "file\n", string(text))
	assert.NoError(t, out.Sync(), "it is still open")
}

func TestWriterFails(t *testing.T) {
	t.Parallel()
	for _, taken := range []int64{0, 1, 100_000} {
		writer := &refusingWriter{n: taken}
		cmd := testproc.Command("spew", "1000000")
		cmd.Stdout = writer
		res, err := testrun.Run(t, cmd)
		assert.ErrorIs(t, err, errRefused)
		assert.Equal(t, 1, writer.calls, "it is not called again")
		assert.Equal(t, safeexec.Stream{Total: 1_000_000, Dropped: 1_000_000 - taken, Err: errRefused}, res.Stdout)
		assert.True(t, res.Success(), "the command was not killed by SIGPIPE")
	}
	for _, n := range []int{-1, 0, 1 << 30} {
		cmd := testproc.Command("spew", "1000")
		cmd.Stdout = liar(n)
		res, err := testrun.Run(t, cmd)
		assert.Error(t, err)
		assert.EqualValues(t, 1000, res.Stdout.Dropped)
	}
}

// A liar is a Writer that returns the same count without an error.
type liar int

func (w liar) Write([]byte) (int, error) { return int(w), nil }

// TestSlowWriter loses nothing, although the command is gone long before the last byte is taken.
func TestSlowWriter(t *testing.T) {
	t.Parallel()
	const size = 1_000_000
	writer := testproc.NewSlowWriter(func() { time.Sleep(time.Millisecond) })
	cmd := testproc.Command("spew", strconv.Itoa(size))
	cmd.Stdout = writer
	res, err := testrun.Run(t, cmd, safeexec.WithLinger(0), safeexec.WithDrainTimeout(testrun.Bound))
	require.NoError(t, err)
	assert.Equal(t, safeexec.Stream{Total: size}, res.Stdout)
	assert.Len(t, writer.Bytes(), size)
	assert.NoError(t, testproc.CheckPattern(writer.Bytes(), 0))
}

// TestWriterIsStuckWithFullPipe leaves a Writer in its first call while the command still writes.
func TestWriterIsStuckWithFullPipe(t *testing.T) {
	t.Parallel()
	writer := testproc.NewStalledWriter()
	defer writer.Release()
	cmd := testproc.Command("spew-forever")
	cmd.Stdout = writer
	canary := testproc.WithCanary(t, cmd)
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Soon))
	require.NoError(t, err)
	<-writer.Entered()
	require.NoError(t, p.SetTimeout(testrun.Soon))
	res, err := p.Wait()
	assert.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.ErrorIs(t, err, safeexec.ErrWriterStuck)
	assert.NotErrorIs(t, err, safeexec.ErrPipeHeld)
	assert.Equal(t, []safeexec.Abandoned{safeexec.AbandonedStdout}, res.Abandoned)
	assert.Equal(t, res.Stdout.Total, res.Stdout.Dropped)
	assert.Positive(t, res.Stdout.Total)
	canary.WaitGone(t)
	var exit *exec.ExitError
	assert.True(t, errors.As(err, &exit))
}

func TestOverflowStop(t *testing.T) {
	t.Parallel()
	cmd := testproc.Command("spew-forever")
	canary := testproc.WithCanary(t, cmd)
	res, err := testrun.Run(t, cmd, safeexec.WithOverflow(safeexec.OverflowStop), safeexec.WithOutputLimit(1000))
	assert.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.Equal(t, safeexec.CauseOutputLimit, res.Cause)
	assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
	require.Len(t, res.Stdout.Bytes(), 1000)
	assert.NoError(t, testproc.CheckPattern(res.Stdout.Bytes(), 0), "of the beginning")
	assert.Equal(t, res.Stdout.Total-1000, res.Stdout.Dropped)
	canary.WaitGone(t)

	checker := new(testproc.PatternChecker)
	cmd = testproc.Command("spew-forever")
	cmd.Stdout = checker
	_, err = testrun.Run(t, cmd, safeexec.WithOverflow(safeexec.OverflowStop), safeexec.WithOutputLimit(100_000))
	assert.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.EqualValues(t, 100_000, checker.N, "a Writer gets no more")
	assert.NoError(t, checker.Err)

	res, err = testrun.Run(t, testproc.Command("spew", "1000"), safeexec.WithOverflow(safeexec.OverflowStop), safeexec.WithOutputLimit(1000))
	assert.NoError(t, err, "the limit itself is not too much")
	assert.Len(t, res.Stdout.Bytes(), 1000)
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	for idle := testrun.Soon; ; idle *= 2 {
		res, err := testrun.Run(t, exec.Command("sh", "-c", "echo once; sleep 61"), safeexec.WithIdleTimeout(idle))
		assert.ErrorIs(t, err, safeexec.ErrIdle)
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, safeexec.CauseIdle, res.Cause)
		assert.GreaterOrEqual(t, res.Times.Start+res.Times.Run, idle)
		if res.Stdout.Total > 0 || idle > testrun.Bound/4 { // or the machine is busy
			assert.Equal(t, "once", res.Stdout.String())
			break
		}
	}

	// Either stream is a sign of life.
	res, err := testrun.Talks(t, func(pause string) *exec.Cmd {
		return exec.Command("sh", "-c", "for i in 1 2 3 4 5 6; do sleep "+pause+"; echo $i >&2; done")
	})
	assert.NoError(t, err)
	assert.True(t, res.Success())
}
