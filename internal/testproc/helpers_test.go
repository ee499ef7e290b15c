package testproc

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// start starts a helper with a pipe as standard output, which is returned; it and the process are
// ended with the test.
func start(t *testing.T, cmd *exec.Cmd) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stdout = w
	require.NoError(t, cmd.Start())
	require.NoError(t, w.Close())
	require.NoError(t, r.SetReadDeadline(deadline(t)))
	t.Cleanup(func() {
		cmd.Process.Kill()
		if cmd.ProcessState == nil {
			cmd.Wait()
		}
		r.Close()
	})
	return r
}

// output runs a helper to its end.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := Command(name, args...).Output()
	require.NoError(t, err)
	return string(out)
}

func TestExit(t *testing.T) {
	for _, status := range []int{0, 3, 255} {
		cmd := Command("exit", strconv.Itoa(status))
		cmd.Run()
		assert.Equal(t, status, cmd.ProcessState.ExitCode())
	}
}

func TestHang(t *testing.T) {
	cmd := Command("hang")
	r := start(t, cmd)
	assert.Equal(t, []int{cmd.Process.Pid}, Ready(t, r))
	require.NoError(t, cmd.Process.Kill())
	rest, err := io.ReadAll(r)
	require.NoError(t, err)
	assert.Empty(t, rest)
}

func TestSpew(t *testing.T) {
	for _, n := range []int{0, 1, 16, 65536, 1<<20 + 5} {
		out := output(t, "spew", strconv.Itoa(n))
		assert.Len(t, out, n)
		assert.NoError(t, CheckPattern([]byte(out), 0))
	}
}

func TestSpewToDescriptor(t *testing.T) {
	cmd := Command("spew", "1000", "2")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	require.NoError(t, cmd.Run())
	assert.Equal(t, 1000, stderr.Len())
}

func TestSpewForever(t *testing.T) {
	r := start(t, Command("spew-forever"))
	var check PatternChecker
	_, err := io.CopyN(&check, r, 4<<20)
	require.NoError(t, err)
	assert.NoError(t, check.Err)
	assert.Equal(t, int64(4<<20), check.N)
}

func TestEchoStdin(t *testing.T) {
	cmd := Command("echo-stdin")
	cmd.Stdin = strings.NewReader("some input")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "some input", string(out))
}

func TestSlow(t *testing.T) {
	cmd := Command("slow", "3")
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	r := start(t, cmd)
	for _, want := range []string{"line 1", "line 2"} {
		_, err = in.Write([]byte("\n"))
		require.NoError(t, err)
		assert.Equal(t, want, ReadLine(t, r))
	}
	require.NoError(t, in.Close())
	cmd.Wait()
	assert.Equal(t, 3, cmd.ProcessState.ExitCode(), "the input ended before the last line")
}

func TestSlowWithPause(t *testing.T) {
	assert.Equal(t, "line 1\nline 2\n", output(t, "slow", "2", "1ms"))
}

func TestArgs(t *testing.T) {
	assert.Equal(t, "\"\"\n\"a b\"\n\"-x\\n\"\n\"args\"\n", output(t, "args", "", "a b", "-x\n", "args"))
}

func TestEnv(t *testing.T) {
	cmd := Command("env", "COLOR")
	cmd.Env = append(cmd.Environ(), "COLOR=blue")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "blue\n", string(out))
}

func TestEnvLacksSelector(t *testing.T) {
	cmd := Command("env", Selector)
	require.Error(t, cmd.Run())
	assert.Equal(t, 1, cmd.ProcessState.ExitCode())
}

func TestEnvSparesRaceSleep(t *testing.T) {
	t.Setenv("GORACE", "halt_on_error=1")
	assert.Equal(t, "halt_on_error=1 atexit_sleep_ms=0\n", output(t, "env", "GORACE"))
}

func TestCwd(t *testing.T) {
	dir := t.TempDir()
	cmd := Command("cwd")
	cmd.Dir = dir
	cmd.Env = append(cmd.Env, "PWD=/elsewhere")
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Equal(t, "/elsewhere\n"+dir+"\n", string(out))
}

func TestStderr(t *testing.T) {
	cmd := Command("stderr", "a message")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	assert.Empty(t, out)
	assert.Equal(t, "a message", stderr.String())
}

func TestSelectorThroughAnotherProgram(t *testing.T) {
	env := HasProgram(t, "env")
	exe, err := os.Executable()
	require.NoError(t, err)
	out, err := exec.Command(env, "-i", Selector+"=args", exe, "x").Output()
	require.NoError(t, err)
	assert.Equal(t, "\"x\"\n", string(out))
}
