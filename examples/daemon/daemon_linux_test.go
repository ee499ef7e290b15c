package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asDaemon makes this test binary the program.
const asDaemon = "SAFEEXEC_TEST_DAEMON"

func TestMain(m *testing.M) {
	if os.Getenv(asDaemon) != "" {
		os.Unsetenv(asDaemon)
		main()
	}
	testproc.Main(m)
}

// daemon runs the program and returns what it printed on both outputs and its exit code.
func daemon(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asDaemon+"=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func TestLife(t *testing.T) {
	dir, pidFile := t.TempDir(), filepath.Join(t.TempDir(), "web.pid")
	t.Cleanup(func() { daemon(t, "-dir", dir, "stop", "web") })

	out, code := daemon(t, "-dir", dir, "start", "-ready", "^up", "-pidfile", pidFile, "web",
		"sh", "-c", "setsid sleep 1000 & echo up; exec sleep 1001")
	require.Zero(t, code, out)
	pid, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	assert.Equal(t, fmt.Sprintf("web: running, PID %s\n", strings.TrimSpace(string(pid))), out)

	again, code := daemon(t, "-dir", dir, "start", "web", "true")
	assert.Equal(t, codeFailed, code, again)

	out, code = daemon(t, "-dir", dir, "status", "web")
	assert.Zero(t, code)
	assert.Contains(t, out, strings.TrimSpace(string(pid)))
	out, _ = daemon(t, "-dir", dir, "log", "web")
	assert.Equal(t, "up\n", out)

	out, code = daemon(t, "-dir", dir, "restart", "web")
	require.Zero(t, code, out)
	next, err := os.ReadFile(pidFile)
	require.NoError(t, err)
	assert.NotEqual(t, pid, next)

	out, code = daemon(t, "-dir", dir, "stop", "web")
	require.Zero(t, code, out)
	assert.Contains(t, out, "ended")
	assert.NoFileExists(t, pidFile)
	out, code = daemon(t, "-dir", dir, "status", "web")
	assert.Equal(t, codeDead, code)
	assert.Contains(t, out, "web: ended")
}

func TestNotReady(t *testing.T) {
	dir := t.TempDir()
	out, code := daemon(t, "-dir", dir, "start", "-ready", "^up", "web", "sh", "-c", "echo no database; exit 1")
	assert.Equal(t, codeFailed, code)
	assert.Contains(t, out, "| no database\n")
	_, code = daemon(t, "-dir", dir, "stop", "nobody")
	assert.Equal(t, codeFailed, code)
	_, code = daemon(t, "start")
	assert.Equal(t, codeUsage, code)
}
