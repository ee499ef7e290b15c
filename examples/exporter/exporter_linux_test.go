package main

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asExporter makes this test binary the program.
const asExporter = "SAFEEXEC_TEST_EXPORTER"

func TestMain(m *testing.M) {
	if os.Getenv(asExporter) != "" {
		os.Unsetenv(asExporter)
		main()
		return
	}
	testproc.Main(m, testproc.Idle(http.DefaultClient.CloseIdleConnections))
}

// Nothing is exported that no command has printed.
func TestNoValueYet(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(value)
	families, err := registry.Gather()
	require.NoError(t, err)
	assert.Empty(t, families)
}

// The command prints 41.5, then no number, and then hangs: the value stays, and the log says why.
func TestLastGoodValue(t *testing.T) {
	times := filepath.Join(t.TempDir(), "times")
	script := `echo x >>$0; case $(wc -l <$0) in 1) echo 41.5;; 2) echo oops;; *) exec sleep 600;; esac`
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0],
		"-addr", "127.0.0.1:0", "-every", "10ms", "-timeout", "2s", "sh", "-c", script, times)
	cmd.Env = append(os.Environ(), asExporter+"=1", "GORACE=atexit_sleep_ms=0")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	await := func(expression string) string {
		for re := regexp.MustCompile(expression); lines.Scan(); {
			if m := re.FindStringSubmatch(lines.Text()); m != nil {
				return m[len(m)-1]
			}
		}
		require.Fail(t, "it ended", expression)
		return ""
	}
	addr := await(`listening addr=(\S+)`)
	await(`the output cannot be read`)
	await(`sh was ended after .*stuck=".*sleep is blocked in clock_nanosleep`)

	resp, err := http.Get("http://" + addr + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Contains(t, string(body), "\nexporter_value 41.5\n")
	assert.Contains(t, string(body), "exporter_failures_total{cause=\"output\"} 1\n")
	assert.Regexp(t, `exporter_failures_total\{cause="timeout"\} \d`, string(body))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	for lines.Scan() {
		continue
	}
	require.NoError(t, cmd.Wait())
}
