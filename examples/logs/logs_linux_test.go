package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asLogs makes this test binary the program.
const asLogs = "SAFEEXEC_TEST_LOGS"

func TestMain(m *testing.M) {
	if os.Getenv(asLogs) != "" {
		os.Unsetenv(asLogs)
		main()
		return
	}
	testproc.Main(m, testproc.Idle(http.DefaultClient.CloseIdleConnections))
}

// The command fails again and again, with the same output: the log, the metrics and the spans say so.
func TestTold(t *testing.T) {
	script := `echo $TRACEPARENT; printf %300d 7 >&2; exit 3`
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], "-addr", "127.0.0.1:0", "-every", "10ms", "sh", "-c", script)
	cmd.Env = append(os.Environ(), asLogs+"=1", "GORACE=atexit_sleep_ms=0")
	var spans bytes.Buffer
	cmd.Stdout = &spans
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	log := json.NewDecoder(stderr)
	next := func(record any) {
		var text json.RawMessage
		require.NoError(t, log.Decode(&text))
		t.Logf("%s", text)
		require.NoError(t, json.Unmarshal(text, record))
	}
	type ended struct {
		Cause          string
		ExitCode       int `json:"exit_code"`
		Stdout, Stderr struct {
			Head, Output string
		}
	}
	var listening struct{ Addr string }
	next(&listening)
	require.NotEmpty(t, listening.Addr)
	var first, second ended
	next(&first)
	next(&second)
	assert.Equal(t, 3, first.ExitCode)
	assert.Equal(t, "exited", second.Cause)
	assert.Contains(t, first.Stderr.Head, "7")
	assert.Equal(t, "equal-last", second.Stderr.Output)
	trace := strings.Split(first.Stdout.Head, "-")
	require.Len(t, trace, 4, "TRACEPARENT")

	resp, err := http.Get("http://" + listening.Addr + "/metrics")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	assert.Regexp(t, `safeexec_runs_total\{cause="failed",command="sh"\} [1-9]`, string(body))

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_, err = io.Copy(io.Discard, io.MultiReader(log.Buffered(), stderr))
	require.NoError(t, err)
	require.NoError(t, cmd.Wait())
	var span struct {
		Name        string
		SpanContext struct{ TraceID, SpanID string }
	}
	require.NoError(t, json.NewDecoder(&spans).Decode(&span))
	assert.Equal(t, "sh", span.Name)
	assert.Equal(t, trace[1:3], []string{span.SpanContext.TraceID, span.SpanContext.SpanID})
}
