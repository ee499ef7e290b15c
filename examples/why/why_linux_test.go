package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asWhy makes this test binary the program.
const asWhy = "SAFEEXEC_TEST_WHY"

func TestMain(m *testing.M) {
	if os.Getenv(asWhy) != "" {
		os.Unsetenv(asWhy)
		main()
		return
	}
	testproc.Main(m)
}

// why runs the program and returns what it printed and its exit code.
func why(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asWhy+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.Output()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// sleeper is a process that sleeps, and its end.
func sleeper(t *testing.T) (pid string, end func()) {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	require.NoError(t, cmd.Start())
	end = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(end)
	ctx := testproc.Deadline(t)
	for { // until it is sleep that runs, and sleeps
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", cmd.Process.Pid))
		if strings.Contains(string(name), "nanosleep") {
			break
		}
		require.NoError(t, ctx.Err())
	}
	return fmt.Sprint(cmd.Process.Pid), end
}

func TestWhy(t *testing.T) {
	pid, _ := sleeper(t)
	blocked := regexp.MustCompile("^" + pid + ` sleep is blocked in clock_nanosleep\(\)`)
	var out string
	var code int
	testproc.Wait(t, func() bool { // a busy machine's look may be over before it has that
		out, code = why(t, pid)
		return blocked.MatchString(out)
	})
	assert.Zero(t, code)
	assert.Contains(t, out, "command: sleep 600\n")

	out, code = why(t, "-json", pid)
	assert.Zero(t, code)
	var report safeexec.Report
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	assert.True(t, report.Found)

	out, code = why(t, "1073741824")
	assert.Equal(t, 2, code)
	assert.Empty(t, out)
	for _, args := range [][]string{{}, {"x"}, {"1", "2"}, {"-no-such-flag"}} {
		_, code = why(t, args...)
		assert.Equal(t, 2, code, args)
	}
}

// No cause: threads that wait for each other in ways that cannot be told from outside.
func TestWhyWithoutCause(t *testing.T) {
	testproc.HasProgram(t, "python3")
	cmd := exec.Command(testproc.HasProgram(t, "python3"), "-c", "import threading; print('ready', flush=True); threading.Semaphore(0).acquire()")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	defer cmd.Wait()
	defer cmd.Process.Kill()
	testproc.ReadLine(t, out)
	text, code := why(t, fmt.Sprint(cmd.Process.Pid))
	for ctx := testproc.Deadline(t); !strings.Contains(text, "is blocked in futex()"); { // it is on its way there
		require.NoError(t, ctx.Err(), text)
		text, code = why(t, fmt.Sprint(cmd.Process.Pid))
	}
	assert.Equal(t, 1, code, text)
}

// It says what has changed, until the process ends.
func TestWatch(t *testing.T) {
	pid, end := sleeper(t)
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], "-watch", pid)
	cmd.Env = append(os.Environ(), asWhy+"=1", "GORACE=atexit_sleep_ms=0")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.Contains(lines.Text(), "clock_nanosleep") {
	}
	var n int
	_, err = fmt.Sscan(pid, &n)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(n, syscall.SIGSTOP))
	for lines.Scan() && !strings.Contains(lines.Text(), "is stopped and waits for SIGCONT") {
	}
	end()
	for lines.Scan() {
	}
	cmd.Wait()
	assert.Equal(t, 2, cmd.ProcessState.ExitCode(), "there is no such process any more")
}

func TestPipe(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	info, err := r.Stat()
	require.NoError(t, err)
	inode := fmt.Sprint(info.Sys().(*syscall.Stat_t).Ino)
	var out string
	var code int
	testproc.Wait(t, func() bool { // as in TestWhy
		out, code = why(t, "-pipe", inode)
		return code == 0
	})
	assert.Contains(t, out, fmt.Sprintf("reader %d ", os.Getpid()))
	assert.Contains(t, out, fmt.Sprintf("writer %d ", os.Getpid()))
	_, code = why(t, "-pipe", "4611686018427387904")
	assert.Equal(t, 1, code)
}
