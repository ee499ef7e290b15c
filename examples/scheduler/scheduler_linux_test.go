package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asScheduler makes this test binary the program.
const asScheduler = "SAFEEXEC_TEST_SCHEDULER"

func TestMain(m *testing.M) {
	if os.Getenv(asScheduler) != "" {
		os.Unsetenv(asScheduler)
		main()
		return
	}
	testproc.Main(m)
}

// program returns the scheduler for stations a, b and c, with a shell script as the command.
func program(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "stations")
	require.NoError(t, os.WriteFile(file, []byte("a\n# not one\n\nb\nc\n"), 0o600))
	args = append(args, "-interval", "1ms", file, "sh", "-c", script, "sh")
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asScheduler+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

func run(t *testing.T, cmd *exec.Cmd) (string, int) {
	t.Helper()
	out, err := cmd.Output()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestOneRound(t *testing.T) {
	lines := []*regexp.Regexp{
		regexp.MustCompile(`(?m)^a: failed with 3: exit status 3$`),
		regexp.MustCompile(`(?m)^b: stuck: \d+ sleep is blocked in clock_nanosleep\(\)`),
		regexp.MustCompile(`(?m)^c: done in \d.*s: is c$`),
	}
	for timeout := time.Second; ; timeout *= 4 { // on a busy machine others may not make it in time either
		cmd := program(t, `case $1 in a) exit 3;; b) exec sleep 600;; esac; echo "is $1"`,
			"-every", "0", "-timeout", timeout.String(), "-limit", "3")
		out, code := run(t, cmd)
		assert.Equal(t, 2, code, "a and b failed")
		assert.Equal(t, 3, strings.Count(out, "\n"))
		if !slices.ContainsFunc(lines, func(re *regexp.Regexp) bool { return !re.MatchString(out) }) {
			return
		}
		require.Less(t, timeout, time.Minute, out)
	}
}

// A station that is stuck does not hold up the rounds, and SIGTERM ends it.
func TestRoundsAndSignal(t *testing.T) {
	cmd := program(t, `test $1 != b || exec sleep 600`, "-every", "50ms", "-limit", "2")
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	for skipped := 0; skipped < 2 && lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "b: skipped") {
			skipped++
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	var rest []string
	for lines.Scan() {
		rest = append(rest, lines.Text())
	}
	_ = cmd.Wait()
	assert.Zero(t, cmd.ProcessState.ExitCode())
	text := strings.Join(rest, "\n")
	assert.Regexp(t, `(?m)^ending [12] commands, within \d`, text)
	assert.Regexp(t, `(?m)^b: failed with 143: .*canceled`, text)
	assert.Contains(t, text, "ended by a signal")
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{{}, {"file"}, {"-no-such-flag"}, {"-limit", "0", "file", "true"}} {
		cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
		cmd.Env = append(os.Environ(), asScheduler+"=1")
		cmd.Stderr = io.Discard
		out, code := run(t, cmd)
		assert.Equal(t, 2, code, args)
		assert.Empty(t, out)
	}
}
