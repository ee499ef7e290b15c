package promsafeexec_test

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"os/exec"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	promsafeexec "github.com/seed841d8200/safeexec/adapters/prometheus"
)

// TestScrape runs commands and reads what a server would scrape.
func TestScrape(t *testing.T) {
	m := promsafeexec.New("sh", "program")
	reg := prometheus.NewPedanticRegistry()
	require.NoError(t, reg.Register(m))
	server := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer server.Close()
	scrape := func() string {
		resp, err := server.Client().Get(server.URL)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	run := func(cmd *exec.Cmd, opts ...safeexec.Option) error {
		opts = append([]safeexec.Option{safeexec.WithTimeout(time.Minute), safeexec.WithObserver(m)}, opts...)
		_, err := safeexec.Run(t.Context(), cmd, opts...)
		return err
	}
	run(exec.Command("sh", "-c", "printf 0123456789"), safeexec.WithOutputLimit(4))
	run(exec.Command("sh", "-c", "exit 3"))
	started := 3
	if err := run(exec.Command("sh", "-c", "sleep 600"), safeexec.WithTimeout(100*time.Millisecond)); errors.Is(err, safeexec.ErrStartStalled) {
		started-- // a busy machine
	}
	run(exec.Command("/nowhere/program"))
	run(exec.Command("true"))

	p, err := safeexec.Start(t.Context(), exec.Command("sleep", "600"), safeexec.WithTimeout(time.Minute), safeexec.WithObserver(m))
	require.NoError(t, err)
	assert.Contains(t, scrape(), `safeexec_runs_in_progress{command="other"} 1`)
	_, err = p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)

	text := scrape()
	for _, line := range []string{
		`safeexec_runs_total{cause="exited",command="sh"} 1`,
		`safeexec_runs_total{cause="failed",command="sh"} 1`,
		`safeexec_runs_total{cause="timeout",command="sh"} 1`,
		`safeexec_runs_total{cause="start_failed",command="program"} 1`,
		`safeexec_runs_total{cause="exited",command="other"} 1`,
		`safeexec_runs_total{cause="stopped",command="other"} 1`,
		`safeexec_run_duration_seconds_count{command="sh"} 3`,
		fmt.Sprintf(`safeexec_start_wait_seconds_count{command="sh"} %d`, started),
		`safeexec_runs_in_progress{command="sh"} 0`,
		`safeexec_runs_in_progress{command="other"} 0`,
		`safeexec_output_dropped_bytes_total{stream="stdout"} 6`,
		`safeexec_output_dropped_bytes_total{stream="stderr"} 0`,
		`safeexec_survivors_total 0`,
	} {
		assert.Contains(t, text, line+"\n")
	}
	assert.NotContains(t, text, `safeexec_start_wait_seconds_count{command="program"}`)
	assert.NotContains(t, text, `command="true"`)
}
