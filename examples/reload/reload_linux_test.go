package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// These make this test binary the program, and a server that listens.
const (
	asReload = "SAFEEXEC_TEST_RELOAD"
	asServer = "SAFEEXEC_TEST_RELOAD_SERVER"
)

func TestMain(m *testing.M) {
	if os.Getenv(asReload) != "" {
		os.Unsetenv(asReload)
		main()
		return
	}
	if addr := os.Getenv(asServer); addr != "" && len(os.Args) > 1 && os.Args[1] == "serve" {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			fmt.Println("server:", err)
			os.Exit(1)
		}
		fmt.Println("server:", os.Getpid())
		_, _ = l.Accept() // nobody connects
		return
	}
	testproc.Main(m)
}

// TestPortIsFree has a server that leaves the session of its shell and holds a port. Each round it can
// listen there again.
func TestPortIsFree(t *testing.T) {
	testproc.HasProgram(t, "setsid")
	l, err := net.Listen("tcp", "127.77.0.1:0") // where no other program listens
	require.NoError(t, err)
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	file := filepath.Join(dir, "config")
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], "-watch", dir, "-every", "10ms",
		"sh", "-c", `setsid "$0" serve & wait`, os.Args[0])
	cmd.Env = append(os.Environ(), asReload+"=1", asServer+"="+addr, "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stdout)
	var pids []int
	for n := range 4 {
		require.True(t, lines.Scan())
		var pid int
		_, err := fmt.Sscanf(lines.Text(), "server: %d", &pid)
		require.NoError(t, err, lines.Text())
		for _, last := range pids {
			assert.True(t, testproc.Dead(last))
		}
		pids = append(pids, pid)
		if n < 3 {
			// At once: a file that is empty for a moment would be a change more.
			next := filepath.Join(dir, ".next")
			require.NoError(t, os.WriteFile(next, []byte(strings.Repeat("x", n+1)), 0o600))
			require.NoError(t, os.Rename(next, file))
		}
	}
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	assert.False(t, lines.Scan())
	require.NoError(t, cmd.Wait())
	for _, pid := range pids {
		assert.True(t, testproc.Dead(pid))
	}
}
