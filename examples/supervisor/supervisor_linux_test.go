package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/job"
)

// asSupervisor makes this test binary the program.
const asSupervisor = "SAFEEXEC_TEST_SUPERVISOR"

func TestMain(m *testing.M) {
	if os.Getenv(asSupervisor) != "" {
		os.Unsetenv(asSupervisor)
		main()
	}
	testproc.Main(m)
}

// A program is a supervisor that runs.
type program struct {
	cmd *exec.Cmd
	out *bufio.Reader
}

func start(t *testing.T, args ...string) *program {
	t.Helper()
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asSupervisor+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return &program{cmd, bufio.NewReader(out)}
}

// await reads until a line matches, and returns what the last group of the expression matches.
func (p *program) await(t *testing.T, expression string) string {
	t.Helper()
	var seen strings.Builder
	for {
		line, err := p.out.ReadString('\n')
		require.NoError(t, err, "%s in %s", expression, &seen)
		if m := regexp.MustCompile(expression).FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			return m[len(m)-1]
		}
		seen.WriteString(line)
	}
}

func (p *program) end(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
	_, err := io.Copy(io.Discard, p.out)
	require.NoError(t, err)
	_ = p.cmd.Wait()
}

// killAll ends what a test that failed has left.
func killAll(t *testing.T, dir string) {
	store, err := job.Open(dir)
	require.NoError(t, err)
	defer store.Close()
	jobs, err := store.List()
	require.NoError(t, err)
	for _, j := range jobs {
		_, err := j.Kill(testproc.Deadline(t))
		assert.NoError(t, err)
	}
}

// TestServices has one that fails twice, one that is done, and one that runs from the start, which
// outlives the supervisor that started it.
func TestServices(t *testing.T) {
	dir, work := t.TempDir(), t.TempDir()
	script := filepath.Join(work, "fails")
	require.NoError(t, os.WriteFile(script, []byte(`
		echo x >>$1; [ $(wc -l <$1) -gt 2 ] || { echo failed; exit 1; }
		exec sleep 1000`), 0o600))
	file := filepath.Join(work, "services")
	text := fmt.Sprintf("# three of them\nfails sh %s %s\ndone true\n\nruns sleep 1001\n", script, filepath.Join(work, "times"))
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))

	t.Cleanup(func() { killAll(t, dir) })
	first := start(t, "-dir", dir, file)
	starts, pids := make(map[string]int), make(map[string]int)
	for starts["fails"] < 3 || starts["runs"] < 1 || starts["done"] < 1 {
		found := first.await(t, `^(fails: running, PID \d+|runs: running, PID \d+|done: ended, exit status 0)$`)
		name, _, _ := strings.Cut(found, ":")
		starts[name]++
		if _, pid, ok := strings.Cut(found, "PID "); ok {
			var err error
			pids[name], err = strconv.Atoi(pid)
			require.NoError(t, err)
		}
	}
	first.end(t, syscall.SIGKILL)

	second := start(t, "-dir", dir, file)
	for _, name := range []string{"fails", "runs"} { // in the order of their names
		pid := second.await(t, "^"+name+`: running, PID (\d+)$`)
		assert.Equal(t, strconv.Itoa(pids[name]), pid, "it was not started again")
	}
	second.end(t, syscall.SIGTERM)
	assert.True(t, second.cmd.ProcessState.Success())
	for name, pid := range pids {
		assert.True(t, testproc.Dead(pid), name)
	}
	written, err := os.ReadFile(filepath.Join(work, "times"))
	require.NoError(t, err)
	assert.Equal(t, "x\nx\nx\n", string(written))
}
