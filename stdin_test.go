//go:build linux

package safeexec_test

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

func TestStdinData(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 65_535, 65_536, 65_537, 3_000_000} {
		want := make([]byte, size)
		testproc.FillPattern(want, 0)
		for name, reader := range map[string]io.Reader{
			"bytes":   bytes.NewReader(want),
			"buffer":  bytes.NewBuffer(bytes.Clone(want)),
			"strings": strings.NewReader(string(want)),
			"plain":   testproc.PlainReader{Reader: bytes.NewReader(want)},
		} {
			checker := new(testproc.PatternChecker)
			cmd := testproc.Command("echo-stdin")
			cmd.Stdin, cmd.Stdout = reader, checker
			_, err := safeexec.Run(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
			require.NoError(t, err, name)
			assert.EqualValues(t, size, checker.N, name)
			assert.NoError(t, checker.Err, name)
		}
	}
}

func TestStdinFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "in")
	require.NoError(t, os.WriteFile(path, []byte("from a file"), 0o644))
	in, err := os.Open(path)
	require.NoError(t, err)
	defer in.Close()
	cmd := exec.Command("sh", "-c", "test -f /dev/stdin && cat")
	cmd.Stdin = in
	out, err := safeexec.Output(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	assert.Equal(t, "from a file", string(out))
	_, err = in.Seek(0, io.SeekStart)
	assert.NoError(t, err, "it is still open")
}

var errReader = errors.New("the test's reader failed")

func TestStdinReaderFails(t *testing.T) {
	t.Parallel()
	cmd := testproc.Command("echo-stdin")
	cmd.Stdin = io.MultiReader(strings.NewReader("before"), errorReader{})
	res, err := testrun.Run(t, cmd)
	assert.ErrorIs(t, err, errReader)
	assert.Equal(t, "before", res.Stdout.String(), "it got what came before, and the end")
	assert.Zero(t, res.ExitCode)

	for _, read := range []int{-1, 1 << 30} {
		cmd := testproc.Command("echo-stdin")
		cmd.Stdin = lyingReader(read)
		_, err = testrun.Run(t, cmd)
		assert.Error(t, err)
	}
	cmd = testproc.Command("echo-stdin")
	cmd.Stdin = lyingReader(0)
	_, err = testrun.Run(t, cmd)
	assert.ErrorIs(t, err, io.ErrNoProgress)
}

type errorReader struct{}

func (errorReader) Read([]byte) (int, error) { return 0, errReader }

// A lyingReader returns the same count each time, and no error.
type lyingReader int

func (r lyingReader) Read([]byte) (int, error) { return int(r), nil }

// An endlessReader has always more.
type endlessReader struct{}

func (endlessReader) Read(p []byte) (int, error) { return len(p), nil }

// TestStdinNotWanted ends commands that read nothing, or only the beginning.
func TestStdinNotWanted(t *testing.T) {
	t.Parallel()
	for name, reader := range map[string]io.Reader{
		"large":   bytes.NewReader(make([]byte, 1_000_000)),
		"plain":   testproc.PlainReader{Reader: bytes.NewReader(make([]byte, 1_000_000))},
		"endless": endlessReader{},
	} {
		for _, script := range []string{"exit 0", "head -c 10 >/dev/null", "exec <&-; echo closed"} {
			cmd := exec.Command("sh", "-c", script)
			cmd.Stdin = reader
			res, err := safeexec.Run(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Bound))
			assert.NoError(t, err, "%s: %s", name, script)
			assert.True(t, res.Success())
			assert.Empty(t, res.Abandoned)
		}
	}
}

// TestStdinReaderBlocks has a Reader that gives nothing while the command runs on without it.
func TestStdinReaderBlocks(t *testing.T) {
	t.Parallel()
	reader := testproc.NewStalledReader([]byte("late"))
	defer reader.Release()
	cmd := testproc.Command("echo-stdin")
	cmd.Stdin = reader
	canary := testproc.WithCanary(t, cmd)
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithDrainTimeout(testrun.Soon))
	require.NoError(t, err)
	<-reader.Entered()
	require.NoError(t, p.SetTimeout(time.Millisecond))
	res, err := p.Wait()
	assert.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.ErrorIs(t, err, safeexec.ErrReaderStuck)
	assert.Equal(t, []safeexec.Abandoned{safeexec.AbandonedStdin}, res.Abandoned)
	canary.WaitGone(t)

	late := testproc.NewStalledReader([]byte("late"))
	cmd = testproc.Command("echo-stdin")
	cmd.Stdin = late
	p, err = safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	<-late.Entered()
	late.Release()
	res, err = p.Wait()
	assert.NoError(t, err)
	assert.Equal(t, "late", res.Stdout.String())
}

// TestPipesOfTheCaller talks to a command through StdinPipe, StdoutPipe and StderrPipe.
func TestPipesOfTheCaller(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "while read -r line; do echo got $line; echo also $line >&2; done")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	for _, line := range []string{"one", "two"} {
		_, err = io.WriteString(stdin, line+"\n")
		require.NoError(t, err)
		assert.Equal(t, "got "+line, testproc.ReadLine(t, stdout))
		assert.Equal(t, "also "+line, testproc.ReadLine(t, stderr))
	}
	require.NoError(t, stdin.Close())
	res, err := p.Wait()
	assert.NoError(t, err)
	assert.Equal(t, safeexec.Stream{}, res.Stdout)
	assert.Equal(t, safeexec.Stream{}, res.Stderr)
}

// What StdoutPipe and its kin have opened is closed at the end also where the field was set to something else since:
// only os/exec knows of it by then.
func TestPipeThatWasGivenUp(t *testing.T) {
	testproc.NoLeaks(t)
	for name, give := range map[string]func(*exec.Cmd) (io.Closer, error){
		"stdin":  func(cmd *exec.Cmd) (io.Closer, error) { w, err := cmd.StdinPipe(); cmd.Stdin = nil; return w, err },
		"stdout": func(cmd *exec.Cmd) (io.Closer, error) { r, err := cmd.StdoutPipe(); cmd.Stdout = nil; return r, err },
		"stderr": func(cmd *exec.Cmd) (io.Closer, error) { r, err := cmd.StderrPipe(); cmd.Stderr = nil; return r, err },
	} {
		cmd := exec.Command("true")
		pipe, err := give(cmd)
		require.NoError(t, err)
		_, err = testrun.Run(t, cmd)
		require.NoError(t, err)
		assert.ErrorIs(t, pipe.Close(), os.ErrClosed, name)
	}
}

// A pipe's other end may be another command's by the time its own is started: os/exec closes nothing before Wait.
func TestPipeOfAnotherCommand(t *testing.T) {
	t.Parallel()
	assert.True(t, safeexec.PipesAreSeen, "else the pipe would be closed at the end of its own command")
	own := exec.Command("true")
	pipe, err := own.StdoutPipe()
	require.NoError(t, err)
	other := exec.Command("sh", "-c", "read -r go; echo hello")
	other.Stdout, own.Stdout = own.Stdout, nil
	stdin, err := other.StdinPipe()
	require.NoError(t, err)
	p, err := safeexec.Start(t.Context(), other, safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	q, err := safeexec.Start(t.Context(), own, safeexec.WithTimeout(testrun.Bound), safeexec.WithBackground(safeexec.BackgroundWait))
	require.NoError(t, err)
	_, err = io.WriteString(stdin, "go\n")
	require.NoError(t, err)
	assert.Equal(t, "hello", testproc.ReadLine(t, pipe))
	for _, p := range []*safeexec.Process{p, q} {
		_, err = p.Wait()
		assert.NoError(t, err)
	}
}

// A pipe whose other end was passed on as an extra file stays open until Wait, as any of Start.
func TestPipeAsExtraFile(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "echo hello >&3")
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.ExtraFiles, cmd.Stdout = []*os.File{cmd.Stdout.(*os.File)}, nil
	helloOutlives(t, cmd, pipe)
}

// After Start the Cmd's field is the caller's again, as with os/exec.
func TestStdinIsTakenByStart(t *testing.T) {
	t.Parallel()
	for range testproc.Rounds(20) {
		cmd := exec.Command("cat")
		cmd.Stdin = strings.NewReader("given")
		p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
		require.NoError(t, err)
		cmd.Stdin = nil
		res, err := p.Wait()
		require.NoError(t, err)
		require.Equal(t, "given", res.Stdout.String())
	}
}

// TestStdoutPipeOutlivesCommand reads what a command wrote after it has ended and before Wait, which
// is when os/exec closes the pipe: StdoutPipe, Start, read to the end, Wait.
func TestStdoutPipeOutlivesCommand(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("echo", "hello")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	helloOutlives(t, cmd, stdout)
}

// helloOutlives reads the hello of a command that has ended from its pipe, which Wait closes.
func helloOutlives(t *testing.T, cmd *exec.Cmd, pipe io.ReadCloser) {
	t.Helper()
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	<-p.Done()
	out, err := io.ReadAll(pipe)
	assert.NoError(t, err)
	assert.Equal(t, "hello\n", string(out))
	_, err = p.Wait()
	assert.NoError(t, err)
	assert.ErrorIs(t, pipe.Close(), os.ErrClosed)
}
