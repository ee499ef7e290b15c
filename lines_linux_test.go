//go:build linux

package safeexec_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"os/exec"
	"runtime"
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

// collect runs a command and returns its lines, with the number of the stream before and "…" behind those that go on.
func collect(t *testing.T, cmd *exec.Cmd, opts ...safeexec.Option) (lines []string, res safeexec.Result) {
	t.Helper()
	begun := time.Now()
	res, err := testrun.Run(t, cmd, safeexec.Options(opts...), safeexec.WithLines(func(line safeexec.Line) {
		assert.False(t, line.Time.Before(begun))
		lines = append(lines, shown(line))
	}))
	require.NoError(t, err)
	return lines, res
}

func shown(line safeexec.Line) string {
	text := fmt.Sprintf("%d %s", line.Stream, line.Text)
	if line.Partial {
		text += "…"
	}
	return text
}

func TestWithLines(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, script string
		want         []string
	}{
		{"none", "true", nil},
		{"lines", `printf 'a\n\nb\n'`, []string{"1 a", "1 ", "1 b"}},
		{"the last has no end", `printf 'a\nb'`, []string{"1 a", "1 b"}},
		{"a progress bar", `printf '1%%\r2%%\r3%%\r\n'`, []string{"1 1%", "1 2%", "1 3%"}},
		{"both streams", `echo a; echo b >&2; exec >&-; sleep 0.01; printf c >&2`, []string{"1 a", "2 b", "2 c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, res := collect(t, exec.Command("sh", "-c", c.script))
			assert.ElementsMatch(t, c.want, got, "the streams are not in order with each other")
			assert.Positive(t, res.Times.Total)
		})
	}
	t.Run("merged", func(t *testing.T) {
		t.Parallel()
		got, _ := collect(t, exec.Command("sh", "-c", "echo a; echo b >&2; echo c"), safeexec.WithMergedOutput())
		assert.Equal(t, []string{"1 a", "1 b", "1 c"}, got)
	})
	t.Run("and a Tee", func(t *testing.T) {
		t.Parallel()
		var tee bytes.Buffer
		got, res := collect(t, exec.Command("echo", "a"), safeexec.WithTee(&tee, nil))
		assert.Equal(t, []string{"1 a"}, got)
		assert.Equal(t, "a\n", tee.String())
		assert.Equal(t, "a", res.Stdout.String())
	})
	t.Run("of the other stream", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("sh", "-c", "echo a; echo b >&2")
		cmd.Stdout = io.Discard
		got, _ := collect(t, cmd)
		assert.Equal(t, []string{"2 b"}, got)
	})
}

// A line of 10 MiB, and one without an end behind it.
func TestLongLine(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	var got hash.Hash = sha256.New()
	bytesSeen, lines := 0, 0
	cmd := exec.Command("sh", "-c", fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo; printf end", size))
	res, err := testrun.Run(t, cmd, safeexec.WithOutputLimit(100), safeexec.WithLines(func(line safeexec.Line) {
		assert.LessOrEqual(t, len(line.Text), 64<<10)
		if bytesSeen < size {
			_, _ = io.WriteString(got, line.Text)
			bytesSeen += len(line.Text)
			assert.Equal(t, bytesSeen < size, line.Partial)
		} else {
			assert.Equal(t, "end", line.Text)
			assert.False(t, line.Partial)
			lines++
		}
	}))
	require.NoError(t, err)
	assert.Equal(t, 1, lines)
	assert.Equal(t, sha256.Sum256(bytes.Repeat([]byte("x"), size)), [32]byte(got.Sum(nil)))
	assert.EqualValues(t, size+4, res.Stdout.Total)
}

// What is no text comes as it is, but for the ends of lines.
func TestBinaryLines(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	res, err := testrun.Run(t, testproc.Command("spew", "300000"), safeexec.WithLines(func(line safeexec.Line) { got.WriteString(line.Text) }))
	require.NoError(t, err)
	ends := strings.NewReplacer("\n", "", "\r", "")
	assert.True(t, ends.Replace(string(res.Stdout.Bytes())) == got.String(), "the bytes of the lines")
	assert.NoError(t, testproc.CheckPattern(res.Stdout.Bytes(), 0))
}

func TestLineFunction(t *testing.T) {
	t.Parallel()
	t.Run("panics", func(t *testing.T) {
		t.Parallel()
		calls := 0
		res, err := testrun.Run(t, exec.Command("sh", "-c", "echo a; echo b; echo c >&2; exit 3"),
			safeexec.WithMergedOutput(), safeexec.WithLines(func(safeexec.Line) { calls++; panic("oh") }))
		require.ErrorIs(t, err, safeexec.ErrWriterFailed)
		assert.ErrorContains(t, err, "panicked: oh")
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		assert.Equal(t, 1, calls)
		assert.Equal(t, "a\nb\nc", res.Stdout.String())
	})
	t.Run("panics at the last line", func(t *testing.T) {
		t.Parallel()
		_, err := testrun.Run(t, exec.Command("printf", "a"), safeexec.WithLines(func(safeexec.Line) { panic("oh") }))
		require.ErrorIs(t, err, safeexec.ErrWriterFailed)
	})
	t.Run("ends its goroutine", func(t *testing.T) {
		t.Parallel()
		res, err := testrun.Run(t, exec.Command("sh", "-c", "echo a; echo b; echo c >&2"),
			safeexec.WithLines(func(safeexec.Line) { runtime.Goexit() }))
		require.ErrorIs(t, err, safeexec.ErrWriterFailed)
		assert.Equal(t, "a\nb", res.Stdout.String())
	})
	t.Run("blocks", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		defer close(release)
		res, err := testrun.Run(t, exec.Command("sh", "-c", "echo a; echo b >&2"),
			safeexec.WithDrainTimeout(50*time.Millisecond), safeexec.WithLines(func(safeexec.Line) { <-release }))
		require.ErrorIs(t, err, safeexec.ErrWriterStuck)
		assert.Equal(t, "a", res.Stdout.String())
		assert.Equal(t, "b", res.Stderr.String())
	})
	t.Run("calls Kill", func(t *testing.T) {
		t.Parallel()
		started := make(chan *safeexec.Process, 1)
		p, err := safeexec.Start(t.Context(), exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"),
			safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded),
			safeexec.WithLines(func(safeexec.Line) { (<-started).Kill() }))
		require.NoError(t, err)
		started <- p
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		testrun.Killed(t, res, safeexec.CauseStopped)
	})
	t.Run("is one at a time", func(t *testing.T) {
		t.Parallel()
		within := false
		_, err := testrun.Run(t, exec.Command("sh", "-c", "for i in $(seq 300); do echo o; echo e >&2; done"),
			safeexec.WithLines(func(safeexec.Line) {
				assert.False(t, within)
				within = true
				runtime.Gosched()
				within = false
			}))
		require.NoError(t, err)
	})
}

// manyLines is a command that writes numbered lines, and how many.
func manyLines(n int) *exec.Cmd { return exec.Command("seq", strconv.Itoa(n)) }

// lineCount is a million, or fewer where time is short.
func lineCount() int {
	if testproc.Soaking() {
		return 1_000_000
	}
	return 100_000
}

func TestManyLines(t *testing.T) {
	t.Parallel()
	n, seen := lineCount(), 0
	var before, m runtime.MemStats
	runtime.ReadMemStats(&before)
	highest := uint64(0)
	res, err := testrun.Run(t, manyLines(n), safeexec.WithOutputLimit(1000), safeexec.WithLines(func(line safeexec.Line) {
		if seen++; line.Text != strconv.Itoa(seen) {
			t.Errorf("%q is line %d", line.Text, seen)
			runtime.Goexit()
		}
		if testproc.Soaking() && seen%100_000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			highest = max(highest, m.HeapAlloc)
		}
	}))
	require.NoError(t, err)
	assert.Equal(t, n, seen)
	assert.Positive(t, res.Stdout.Dropped)
	if testproc.Soaking() {
		t.Logf("heap %d KiB before, at most %d KiB meanwhile", before.HeapAlloc>>10, highest>>10)
	}
}

func TestLinesOfAProcess(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, cmd *exec.Cmd, opts ...safeexec.Option) *safeexec.Process {
		p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.Options(opts...))
		require.NoError(t, err)
		return p
	}
	all := func(t *testing.T, p *safeexec.Process) (lines []string) {
		for line := range p.Lines(t.Context()) {
			lines = append(lines, shown(line))
		}
		return lines
	}
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		p := start(t, exec.Command("sh", "-c", `echo a; echo b >&2; printf '1\r2\rc'`))
		assert.ElementsMatch(t, []string{"1 a", "2 b", "1 1", "1 2", "1 c"}, all(t, p))
		<-p.Done()
		assert.ElementsMatch(t, []string{"1 a", "2 b", "1 1", "1 2", "1 c"}, all(t, p), "after the end what was kept")
		res, err := p.Wait()
		require.NoError(t, err)
		assert.Equal(t, "b", res.Stderr.String())
	})
	t.Run("in a slow loop", func(t *testing.T) {
		t.Parallel()
		n, seen := lineCount(), 0
		p := start(t, manyLines(n), safeexec.WithOutputLimit(1000))
		first := 0 // of what is kept when the loop begins some may be missing
		for line := range p.Lines(t.Context()) {
			got, err := strconv.Atoi(line.Text)
			if err != nil || seen > 0 && got <= first {
				continue // the cut of what was kept
			}
			seen++
			first = got
			if seen%10_000 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		assert.Equal(t, n, first)
		_, err := p.Wait()
		require.NoError(t, err)
	})
	t.Run("nothing is lost from the first on", func(t *testing.T) {
		t.Parallel()
		in, next := io.Pipe()
		n, want := lineCount(), 0
		cmd := exec.Command("sh", "-c", "read line; exec seq "+strconv.Itoa(n))
		cmd.Stdin = in
		p := start(t, cmd, safeexec.WithOutputLimit(0), safeexec.WithDrainTimeout(testrun.Bound))
		begun := make(chan struct{})
		go func() { <-begun; next.Close() }()
		go func() {
			for !safeexec.Followed(p) {
				time.Sleep(time.Millisecond)
			}
			close(begun)
		}()
		for line := range p.Lines(t.Context()) {
			if want++; line.Text != strconv.Itoa(want) {
				t.Fatalf("%q is line %d", line.Text, want)
			}
		}
		assert.Equal(t, n, want)
		_, err := p.Wait()
		require.NoError(t, err)
	})
	t.Run("left early", func(t *testing.T) {
		t.Parallel()
		n := lineCount()
		p := start(t, manyLines(n))
		for line := range p.Lines(t.Context()) {
			assert.Equal(t, "1", line.Text)
			break
		}
		res, err := p.Wait()
		require.NoError(t, err)
		want, err := manyLines(n).Output()
		require.NoError(t, err)
		assert.EqualValues(t, len(want), res.Stdout.Total)
		assert.Zero(t, res.Stdout.Dropped)
		assert.True(t, bytes.Equal(want, res.Stdout.Bytes()), "it is kept to the end")
	})
	t.Run("left by its context", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := start(t, exec.Command("sh", "-c", "echo ready; exec sleep 600"))
		for line := range p.Lines(ctx) {
			assert.Equal(t, "ready", line.Text)
			cancel()
		}
		select {
		case <-p.Done():
			t.Error("the run has ended")
		default:
		}
		for line := range p.Lines(t.Context()) { // another has it from the beginning
			assert.Equal(t, "ready", line.Text)
			p.Kill()
		}
		_, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
	})
	t.Run("several at once, and a Tee", func(t *testing.T) {
		t.Parallel()
		var tee bytes.Buffer
		p := start(t, exec.Command("sh", "-c", "for i in $(seq 100); do echo $i; done; sleep 0.05; echo end >&2"),
			safeexec.WithTee(&tee, nil))
		var loops sync.WaitGroup
		for range 4 {
			loops.Go(func() { assert.Len(t, all(t, p), 101) })
		}
		loops.Wait()
		_, err := p.Wait()
		require.NoError(t, err)
		assert.Equal(t, 100, strings.Count(tee.String(), "\n"))
	})
	t.Run("a loop that does not go on", func(t *testing.T) {
		t.Parallel()
		in, more := io.Pipe()
		cmd := exec.Command("sh", "-c", "echo first; read line; exec yes") // more than can be read ahead
		cmd.Stdin = in
		p := start(t, cmd, safeexec.WithDrainTimeout(50*time.Millisecond))
		for range p.Lines(t.Context()) {
			more.Close()
			testproc.Wait(t, func() bool { waits, _ := safeexec.OutputWaits(p); return waits }) // for this loop
			require.NoError(t, p.SetTimeout(time.Millisecond))
			_, err := p.Wait() // is bounded all the same
			require.ErrorIs(t, err, safeexec.ErrWriterStuck)
			break
		}
	})
	t.Run("of streams that have Writers", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("sh", "-c", "echo a; echo b >&2")
		cmd.Stdout = io.Discard
		assert.Equal(t, []string{"2 b"}, all(t, start(t, cmd)))
	})
}

// TestPrefix has the streams of many commands go to one terminal.
func TestPrefix(t *testing.T) {
	t.Parallel()
	r, terminal, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	const commands, each = 16, 40
	var all sync.WaitGroup
	for i := range commands {
		all.Go(func() {
			cmd := exec.Command("sh", "-c", fmt.Sprintf(
				"for n in $(seq %d); do echo %d out; printf '%d ' >&2; echo err >&2; done; printf '%d last'", each, i, i, i))
			cmd.Stdout = safeexec.Prefix(terminal, fmt.Sprintf("%d | ", i))
			cmd.Stderr = safeexec.Prefix(terminal, fmt.Sprintf("%d ! ", i))
			_, err := testrun.Run(t, cmd)
			assert.NoError(t, err)
		})
	}
	go func() { all.Wait(); terminal.Close() }()
	count := 0
	for scanner := bufio.NewScanner(r); scanner.Scan(); count++ {
		words := strings.Fields(scanner.Text())
		if !assert.Len(t, words, 4, scanner.Text()) {
			break
		}
		assert.Equal(t, words[0], words[2], scanner.Text())
		assert.Contains(t, []string{"| out", "| last", "! err"}, words[1]+" "+words[3])
	}
	assert.Equal(t, commands*(2*each+1), count)
}
