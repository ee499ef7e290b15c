//go:build linux

package output_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestWithTee(t *testing.T) {
	t.Parallel()
	t.Run("both", func(t *testing.T) {
		t.Parallel()
		var stdout, stderr bytes.Buffer
		res, err := testrun.Run(t, exec.Command("sh", "-c", "echo out; echo err >&2"), safeexec.WithTee(&stdout, &stderr))
		require.NoError(t, err)
		assert.Equal(t, "out\n", stdout.String())
		assert.Equal(t, "err\n", stderr.String())
		assert.Equal(t, "out\n", string(res.Stdout.Bytes()))
		assert.Equal(t, "err\n", string(res.Stderr.Bytes()))
	})
	t.Run("as it comes", func(t *testing.T) {
		t.Parallel()
		r, w := io.Pipe()
		in, next := io.Pipe()
		cmd := exec.Command("sh", "-c", "echo first; read line; echo $line")
		cmd.Stdin = in
		p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithTee(w, nil))
		require.NoError(t, err)
		assert.Equal(t, "first", testproc.ReadLine(t, r))
		_, _ = io.WriteString(next, "second\n")
		assert.Equal(t, "second", testproc.ReadLine(t, r))
		next.Close()
		res, err := p.Wait()
		require.NoError(t, err)
		assert.Equal(t, "first\nsecond", res.Stdout.String())
	})
	t.Run("one Writer", func(t *testing.T) {
		t.Parallel()
		var both bytes.Buffer
		res, err := testrun.Run(t, testproc.Command("spew", "1000000"), safeexec.WithTee(&both, &both))
		require.NoError(t, err)
		assert.Equal(t, int64(both.Len()), res.Stdout.Total)
		res, err = testrun.Run(t, exec.Command("sh", "-c", "for i in $(seq 200); do echo o; echo e >&2; done"), safeexec.WithTee(&both, &both))
		require.NoError(t, err)
		assert.Equal(t, int64(400), res.Stdout.Total)
		assert.Equal(t, int64(400), res.Stderr.Total)
	})
	t.Run("more than is kept", func(t *testing.T) {
		t.Parallel()
		const size = 3 << 20
		var all testproc.PatternChecker
		res, err := testrun.Run(t, testproc.Command("spew", "3145728"), safeexec.WithTee(&all, nil), safeexec.WithOutputLimit(1000))
		require.NoError(t, err)
		assert.EqualValues(t, size, res.Stdout.Total)
		assert.EqualValues(t, size-1000, res.Stdout.Dropped)
		assert.NoError(t, testproc.CheckPattern(res.Stdout.Head(), 0))
		assert.NoError(t, testproc.CheckPattern(res.Stdout.Tail(), size-500))
	})
	t.Run("a Writer that fails", func(t *testing.T) {
		t.Parallel()
		full := errors.New("full")
		w := writerFunc(func([]byte) (int, error) { return 0, full })
		res, err := testrun.Run(t, testproc.Command("spew", "1000000"), safeexec.WithTee(w, nil))
		require.ErrorIs(t, err, safeexec.ErrWriterFailed)
		require.ErrorIs(t, err, full)
		assert.Equal(t, full, res.Stdout.Err)
		assert.NoError(t, testproc.CheckPattern(res.Stdout.Bytes(), 0))
		assert.EqualValues(t, 1_000_000, len(res.Stdout.Bytes()), "it is kept all the same")

		_, err = testrun.Run(t, testproc.Command("spew-forever"), safeexec.WithTee(w, nil), safeexec.WithStopOnWriteError())
		require.ErrorIs(t, err, safeexec.ErrWriterFailed)
	})
	t.Run("a Writer that blocks", func(t *testing.T) {
		t.Parallel()
		w := testproc.NewStalledWriter()
		defer w.Release()
		res, err := testrun.Run(t, exec.Command("sh", "-c", "echo out; exit 3"),
			safeexec.WithTee(w, nil), safeexec.WithDrainTimeout(50*time.Millisecond))
		require.ErrorIs(t, err, safeexec.ErrWriterStuck)
		assert.Equal(t, 3, res.ExitCode)
		assert.Equal(t, "out", res.Stdout.String())
		assert.Equal(t, []safeexec.Abandoned{safeexec.AbandonedStdout}, res.Abandoned)
	})
	t.Run("refused", func(t *testing.T) {
		cmd := exec.Command("true")
		cmd.Stdout = io.Discard
		testrun.Refused(t, "WithTee", cmd, safeexec.WithTee(io.Discard, nil))
		testrun.Refused(t, "WithTee", exec.Command("true"), safeexec.WithTee(nil, io.Discard), safeexec.WithMergedOutput())
		cmd = exec.Command("true")
		cmd.Stderr = io.Discard
		testrun.Refused(t, "WithTee", cmd, safeexec.WithTee(nil, io.Discard))
		testrun.Refused(t, "WithMergedOutput", cmd, safeexec.WithMergedOutput())
		cmd.Stdout = os.Stdout
		testrun.Refused(t, "WithLines", cmd, safeexec.WithLines(func(safeexec.Line) {}))
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestWithMergedOutput(t *testing.T) {
	t.Parallel()
	const script = "for i in 1 2 3 4; do echo o$i; echo e$i >&2; done"
	const want = "o1\ne1\no2\ne2\no3\ne3\no4\ne4\n"
	res, err := testrun.Run(t, exec.Command("sh", "-c", script), safeexec.WithMergedOutput())
	require.NoError(t, err)
	assert.Equal(t, want, string(res.Stdout.Bytes()))
	assert.Zero(t, res.Stderr)

	var tee, out bytes.Buffer
	_, err = testrun.Run(t, exec.Command("sh", "-c", script), safeexec.WithMergedOutput(), safeexec.WithTee(&tee, nil))
	require.NoError(t, err)
	assert.Equal(t, want, tee.String())

	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = &out
	_, err = testrun.Run(t, cmd, safeexec.WithMergedOutput())
	require.NoError(t, err)
	assert.Equal(t, want, out.String())

	file, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer file.Close()
	cmd = exec.Command("sh", "-c", script)
	cmd.Stdout = file
	_, err = testrun.Run(t, cmd, safeexec.WithMergedOutput())
	require.NoError(t, err)
	text, err := os.ReadFile(file.Name())
	require.NoError(t, err)
	assert.Equal(t, want, string(text))
}

func TestProcessOutput(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]safeexec.Option{
		"kept":      nil,
		"delivered": {safeexec.WithTee(io.Discard, io.Discard)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, next := io.Pipe()
			cmd := exec.Command("sh", "-c", "while read line; do echo $line; done; echo end >&2")
			cmd.Stdin = in
			p, err := safeexec.Start(t.Context(), cmd,
				safeexec.WithTimeout(testrun.Bound), safeexec.WithOutputLimit(8), safeexec.Options(opts...))
			require.NoError(t, err)
			stdout, stderr := p.Output()
			assert.Empty(t, stdout.Bytes())
			assert.Empty(t, stderr.Bytes())
			total := 0
			for _, step := range []struct{ line, want string }{
				{"one", "one\n"}, {"two", "one\ntwo\n"}, {"3", "one\no\n3\n"}, {"four", "one\nour\n"},
			} {
				_, _ = io.WriteString(next, step.line+"\n")
				total += len(step.line) + 1
				testproc.Wait(t, func() bool {
					stdout, _ = p.Output()
					return stdout.Total == int64(total)
				})
				assert.Equal(t, step.want, string(stdout.Bytes()))
				assert.EqualValues(t, total-len(step.want), stdout.Dropped)
			}
			next.Close()
			res, err := p.Wait()
			require.NoError(t, err)
			stdout, stderr = p.Output()
			assert.Equal(t, res.Stdout, stdout)
			assert.Equal(t, "end", stderr.String())
		})
	}
	t.Run("of a Writer", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("sh", "-c", "echo 12; exec sleep 600")
		r, w := io.Pipe()
		cmd.Stdout, cmd.Stderr = w, os.Stderr
		p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
		require.NoError(t, err)
		assert.Equal(t, "12", testproc.ReadLine(t, r))
		testproc.Wait(t, func() bool {
			stdout, _ := p.Output()
			return stdout.Total == 3 && stdout.Dropped == 0
		})
		_, stderr := p.Output()
		assert.Zero(t, stderr)
		p.Kill()
		_, _ = p.Wait()
	})
	t.Run("from everywhere", func(t *testing.T) {
		t.Parallel()
		p, err := safeexec.Start(t.Context(), exec.Command("sh", "-c", "for i in $(seq 500); do echo line $i; done"),
			safeexec.WithTimeout(testrun.Bound))
		require.NoError(t, err)
		for range 4 {
			go func() {
				for {
					stdout, _ := p.Output()
					if !assert.True(t, strings.HasPrefix("line 1\n", string(stdout.Head()[:min(7, len(stdout.Head()))]))) { //nolint:gocritic // it may be the beginning of the line
						return
					}
					select {
					case <-p.Done():
						return
					default:
					}
				}
			}()
		}
		res, err := p.Wait()
		require.NoError(t, err)
		assert.Equal(t, 500, strings.Count(string(res.Stdout.Bytes()), "\n"))
	})
}
