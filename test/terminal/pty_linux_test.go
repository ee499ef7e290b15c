package terminal_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func runPTY(t *testing.T, cmd *exec.Cmd, opts ...safeexec.Option) (safeexec.Result, error) {
	t.Helper()
	needPTY(t)
	return safeexec.Run(t.Context(), cmd, append(ptyOptions(), opts...)...)
}

func startPTY(t *testing.T, cmd *exec.Cmd, opts ...safeexec.Option) *safeexec.Process {
	t.Helper()
	needPTY(t)
	p, err := safeexec.Start(t.Context(), cmd, append(ptyOptions(), opts...)...)
	require.NoError(t, err)
	return p
}

// ptyOptions give a busy machine the time that it needs for a look at the tree.
func ptyOptions() []safeexec.Option {
	return []safeexec.Option{
		safeexec.WithTimeout(testrun.Bound), safeexec.WithPTY(24, 80),
		safeexec.WithDrainTimeout(testrun.Bound), safeexec.WithKillTimeout(testrun.Bound),
	}
}

func needPTY(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	f.Close()
}

// A screen shows what is written to a terminal, to somebody who reads and types.
type screen struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{} // capacity 1
}

func newScreen() *screen { return &screen{more: make(chan struct{}, 1)} }

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf.Write(p)
	select {
	case s.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// await waits until the screen shows text, and returns all that it shows.
func (s *screen) await(t *testing.T, p *safeexec.Process, text string) string {
	t.Helper()
	for {
		if shown := s.String(); strings.Contains(shown, text) {
			return shown
		}
		select {
		case <-s.more:
		case <-p.Done():
			require.Contains(t, s.String(), text)
		}
	}
}

// typeLast types keys, and nothing after them but Ctrl-D.
func typeLast(t *testing.T, in *io.PipeWriter, keys string) {
	t.Helper()
	_, err := io.WriteString(in, keys)
	require.NoError(t, err)
	require.NoError(t, in.Close())
}

func TestPTY(t *testing.T) {
	testproc.NoLeaks(t)
	testproc.HasProgram(t, "tty")
	res, err := runPTY(t, testproc.Shell(`tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all three
		echo to stderr >&2; echo by name >/dev/tty; ls -l /proc/$$/fd | grep -c ptmx; read -r pid x </proc/self/stat; echo $x | cut -d' ' -f 4`),
		safeexec.WithPTY(33, 101))
	require.NoError(t, err)
	lines := strings.Split(string(res.Stdout.Bytes()), "\r\n")
	require.Len(t, lines, 8, "%q", lines)
	assert.True(t, strings.HasPrefix(lines[0], "/dev/pts/"), lines[0])
	assert.Equal(t, []string{"33 101", "all three", "to stderr", "by name", "0"}, lines[1:6], "no descriptor of the master")
	assert.Equal(t, fmt.Sprint(res.PID), lines[6], "it leads a session")
	assert.Zero(t, res.Stderr.Total)
	assert.Zero(t, res.Stdout.Dropped)
}

// A command may close all it has of its terminal, and open it later.
func TestPTYIsOpenedAgain(t *testing.T) {
	testproc.NoLeaks(t)
	res, err := runPTY(t, testproc.Shell(`exec <&- >&- 2>&-; for i in 1 2 3; do (:) ; echo $i >/dev/tty; done`))
	require.NoError(t, err)
	assert.Equal(t, "1\r\n2\r\n3\r\n", string(res.Stdout.Bytes()))
}

func TestPTYStreams(t *testing.T) {
	testproc.NoLeaks(t)
	t.Run("writers", func(t *testing.T) {
		var out, err bytes.Buffer
		cmd := testproc.Shell("echo out; echo err >&2; test -t 1 && ! test -t 2")
		cmd.Stdout, cmd.Stderr = &out, &err
		_, failed := runPTY(t, cmd)
		require.NoError(t, failed)
		assert.Equal(t, "out\r\n", out.String())
		assert.Equal(t, "err\n", err.String())
	})
	t.Run("one writer", func(t *testing.T) {
		var out bytes.Buffer
		cmd := testproc.Shell("echo out; echo err >&2; test -t 1 && test -t 2")
		cmd.Stdout, cmd.Stderr = &out, &out
		_, err := runPTY(t, cmd)
		require.NoError(t, err)
		assert.Equal(t, "out\r\nerr\r\n", out.String())
	})
	t.Run("input from a file", func(t *testing.T) {
		null, err := os.Open(os.DevNull)
		require.NoError(t, err)
		defer null.Close()
		cmd := testproc.Shell("test -t 0 || cat; : >/dev/tty && echo end")
		cmd.Stdin = null
		res, err := runPTY(t, cmd)
		require.NoError(t, err)
		assert.Equal(t, "end\r\n", string(res.Stdout.Bytes()))
	})
	t.Run("tee and lines", func(t *testing.T) {
		out := newScreen()
		var lines []string
		res, err := runPTY(t, testproc.Shell("echo one; echo two >&2"), safeexec.WithTee(out, nil),
			safeexec.WithLines(func(line safeexec.Line) { lines = append(lines, fmt.Sprint(line.Stream, line.Text)) }))
		require.NoError(t, err)
		assert.Equal(t, []string{"1one", "1two"}, lines)
		assert.Equal(t, "one\r\ntwo\r\n", out.String())
		assert.Equal(t, "one\r\ntwo\r\n", string(res.Stdout.Bytes()))
	})
	t.Run("idle", func(t *testing.T) {
		_, err := runPTY(t, testproc.Shell("echo; exec sleep 600"), safeexec.WithIdleTimeout(100*time.Millisecond))
		require.ErrorIs(t, err, safeexec.ErrIdle)
	})
	t.Run("stop at the limit", func(t *testing.T) {
		res, err := runPTY(t, testproc.Shell("while echo y; do :; done"), safeexec.WithOutputLimit(10_000), safeexec.WithOverflow(safeexec.OverflowStop))
		require.ErrorIs(t, err, safeexec.ErrOutputLimit)
		assert.Len(t, res.Stdout.Bytes(), 10_000)
	})
}

func TestPTYTyping(t *testing.T) {
	testproc.NoLeaks(t)
	for _, test := range []struct{ typed, script, want string }{
		{"line\n", "cat", "line\r\nline\r\n"},
		{"no end", "cat", "no endno end"},
		{"", "cat; echo end", "end\r\n"},
		{strings.Repeat("a line as long as lines are\n", 20_000), "stty -echo; wc -l", "20000\r\n"},
	} {
		for _, reader := range []io.Reader{strings.NewReader(test.typed), io.LimitReader(strings.NewReader(test.typed), 1<<30)} {
			cmd := testproc.Shell(test.script)
			cmd.Stdin = reader
			res, err := runPTY(t, cmd)
			require.NoError(t, err, test.script)
			if strings.HasPrefix(test.script, "cat") {
				assert.Equal(t, test.want, string(res.Stdout.Bytes()))
			} else { // what came before the echo was off is shown
				assert.True(t, strings.HasSuffix(string(res.Stdout.Bytes()), test.want), "%q", res.Stdout.String())
			}
		}
	}
}

// A program that asks for a password turns the echo off, and gets what is typed then.
func TestPTYPassword(t *testing.T) {
	testproc.NoLeaks(t)
	answer, in := io.Pipe()
	out := newScreen()
	cmd := testproc.Shell(`stty -echo; printf 'Password: '; read -r p; stty echo; echo; echo "${#p} letters"`)
	cmd.Stdin, cmd.Stdout = answer, out
	p := startPTY(t, cmd)
	out.await(t, p, "Password: ")
	typeLast(t, in, "secret\n")
	_, err := p.Wait()
	require.NoError(t, err)
	assert.Equal(t, "Password: \r\n6 letters\r\n", out.String())
}

func TestPTYInterrupt(t *testing.T) {
	testproc.NoLeaks(t)
	keys, in := io.Pipe()
	out := newScreen()
	cmd := testproc.Shell(`trap 'echo; echo interrupted; exit 0' INT; echo ready; while :; do sleep 0.05; done`)
	cmd.Stdin, cmd.Stdout = keys, out
	p := startPTY(t, cmd)
	out.await(t, p, "ready")
	typeLast(t, in, "\x03")
	_, err := p.Wait()
	require.NoError(t, err)
	assert.Contains(t, out.String(), "\r\ninterrupted\r\n")
}

// An editor or pager takes each key as it comes, and none of them is a signal.
func TestPTYRaw(t *testing.T) {
	testproc.NoLeaks(t)
	keys, in := io.Pipe()
	out := newScreen()
	cmd := testproc.Shell(`stty raw -echo; printf ready; dd bs=1 count=4 2>/dev/null | od -An -tx1; stty sane`)
	cmd.Stdin, cmd.Stdout = keys, out
	p := startPTY(t, cmd)
	out.await(t, p, "ready")
	typeLast(t, in, "\x03\x04\x1aq")
	_, err := p.Wait()
	require.NoError(t, err)
	assert.Equal(t, "ready 03 04 1a 71", strings.TrimRight(out.String(), "\r\n"))
}

func TestPTYResize(t *testing.T) {
	testproc.NoLeaks(t)
	out := newScreen()
	cmd := testproc.Shell(`trap 'stty size; exit 0' WINCH; stty size; echo ready; while :; do sleep 0.05; done`)
	cmd.Stdout = out
	p := startPTY(t, cmd)
	out.await(t, p, "ready")
	assert.ErrorContains(t, p.Resize(0, 80), "Resize")
	assert.ErrorContains(t, p.Resize(24, 1<<16), "Resize")
	require.NoError(t, p.Resize(50, 132))
	_, err := p.Wait()
	require.NoError(t, err)
	assert.Equal(t, "24 80\r\nready\r\n50 132\r\n", out.String())
	assert.ErrorIs(t, p.Resize(50, 132), os.ErrProcessDone)

	p, err = safeexec.Start(t.Context(), testproc.Shell("exec sleep 600"), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	var config *safeexec.ConfigError
	assert.ErrorAs(t, p.Resize(24, 80), &config)
	p.Kill()
	_, _ = p.Wait()
}

// Nobody types, and the report says that this is what the command waits for.
func TestPTYWaitsForInput(t *testing.T) {
	testproc.NoLeaks(t)
	const words = "waits for terminal input in read(0 → terminal)"
	testproc.Wait(t, func() bool { // until the machine is not too busy for the report of the end
		p := startPTY(t, testproc.Shell("read -r x; exit $x"))
		testproc.Wait(t, func() bool {
			report, err := p.Report()
			return err == nil && strings.Contains(report.Verdict, words)
		})
		res, err := p.Stop()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		if res.Report == nil || !strings.Contains(res.Report.Verdict, words) {
			return false
		}
		assert.Contains(t, err.Error(), words)
		assert.Contains(t, res.Describe(err), words)
		return true
	})
}

func TestPTYFlood(t *testing.T) {
	testproc.NoLeaks(t)
	const size = 10 << 20
	flood := fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size)
	t.Run("kept", func(t *testing.T) {
		res, err := runPTY(t, testproc.Shell(flood), safeexec.WithOutputLimit(64<<10))
		require.NoError(t, err)
		assert.EqualValues(t, size, res.Stdout.Total)
		assert.Equal(t, strings.Repeat("x", 64<<10), string(res.Stdout.Bytes()))
	})
	t.Run("written", func(t *testing.T) {
		sum := sha256.New()
		cmd := testproc.Shell(flood)
		cmd.Stdout = sum
		res, err := runPTY(t, cmd)
		require.NoError(t, err)
		assert.EqualValues(t, size, res.Stdout.Total)
		assert.Equal(t, sha256.Sum256(bytes.Repeat([]byte("x"), size)), [sha256.Size]byte(sum.Sum(nil)))
	})
}

// Somebody outside the tree has the terminal open. They are named, do not hold Run, and are hung up.
func TestPTYHeld(t *testing.T) {
	testproc.NoLeaks(t)
	name, in := io.Pipe()
	out := newScreen()
	// What it writes last is not yet read when it exits.
	cmd := testproc.Shell("tty; read -r x; head -c 8000 /dev/zero | tr '\\0' x")
	cmd.Stdin, cmd.Stdout = name, out
	p := startPTY(t, cmd, safeexec.WithLinger(0), safeexec.WithDrainTimeout(100*time.Millisecond))
	path, _, _ := strings.Cut(out.await(t, p, "\n"), "\r")
	held, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	defer held.Close()
	typeLast(t, in, "go\n")
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrPipeHeld)
	if !res.HoldersPartial {
		require.Len(t, res.Holders, 1)
		assert.Equal(t, os.Getpid(), res.Holders[0].PID)
		assert.Contains(t, res.Holders[0].FDs, int(held.Fd()))
	}
	_, err = held.Read(make([]byte, 1))
	assert.ErrorIs(t, err, io.EOF, "it is hung up")
}

// What a command leaves in a session of its own is ended, and what it wrote is there.
func TestPTYBackground(t *testing.T) {
	testproc.NoLeaks(t)
	testproc.HasProgram(t, "setsid")
	script := testproc.Shell("setsid sh -c 'trap \"\" TERM HUP; echo background; while :; do sleep 600; done' & read -r x")
	wait, in := io.Pipe()
	out := newScreen()
	script.Stdin, script.Stdout = wait, out
	p := startPTY(t, script, safeexec.WithGracePeriod(0))
	out.await(t, p, "background")
	typeLast(t, in, "\n")
	res, err := p.Wait()
	require.NoError(t, err)
	assert.NotEmpty(t, res.Killed)
	assert.Contains(t, out.String(), "background\r\n")

	res, err = runPTY(t, testproc.Shell("trap '' HUP; (sleep 0.1; echo later) & exit 3"), safeexec.WithBackground(safeexec.BackgroundWait))
	require.Error(t, err)
	assert.Equal(t, 3, res.ExitCode)
	assert.Equal(t, "later\r\n", string(res.Stdout.Bytes()))
}

func TestPTYKill(t *testing.T) {
	testproc.NoLeaks(t)
	out := newScreen()
	cmd := testproc.Shell("trap '' TERM HUP INT; (trap '' TERM HUP INT; echo ready; while :; do sleep 600; done) & while :; do sleep 600; done")
	cmd.Stdout = out
	p := startPTY(t, cmd)
	out.await(t, p, "ready")
	p.Kill()
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Equal(t, syscall.SIGKILL, res.Signal)
	assert.Empty(t, res.Survivors)
}
