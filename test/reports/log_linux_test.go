package reports_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A journal is a logger and what it wrote.
type journal struct {
	buf bytes.Buffer
	*slog.Logger
}

func newJournal(level slog.Level) *journal {
	j := new(journal)
	j.Logger = slog.New(slog.NewJSONHandler(&j.buf, &slog.HandlerOptions{Level: level}))
	return j
}

// records returns what was written since the last call.
func (j *journal) records(t testing.TB) []map[string]any {
	t.Helper()
	var all []map[string]any
	for dec := json.NewDecoder(&j.buf); dec.More(); {
		var record map[string]any
		require.NoError(t, dec.Decode(&record))
		all = append(all, record)
	}
	j.buf.Reset()
	return all
}

// record returns the only record since the last call.
func (j *journal) record(t testing.TB) map[string]any {
	t.Helper()
	all := j.records(t)
	require.Len(t, all, 1)
	return all[0]
}

func TestLogger(t *testing.T) {
	t.Parallel()
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name, level, cause string
		ctx                context.Context
		cmd                *exec.Cmd
		opts               []safeexec.Option
	}{
		{"success", "INFO", "exited", t.Context(), testproc.Command("exit", "0"), nil},
		{"failure", "WARN", "exited", t.Context(), testproc.Command("exit", "7"), nil},
		{"timeout", "ERROR", "timeout", t.Context(), testproc.Command("hang"), []safeexec.Option{safeexec.WithTimeout(testrun.Soon)}},
		{"canceled", "INFO", "canceled", canceled, testproc.Command("hang"), nil},
		{"not found", "ERROR", "start failed", t.Context(), exec.Command("/nowhere/program", "--password=secret"), nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := newJournal(slog.LevelDebug)
			opts := append([]safeexec.Option{safeexec.WithTimeout(testrun.Bound)}, test.opts...)
			res, err := safeexec.Run(test.ctx, test.cmd, append(opts, safeexec.WithLogger(j.Logger), safeexec.WithLogger(nil))...)
			assert.NotContains(t, j.buf.String(), "secret")
			record := j.record(t)
			assert.Equal(t, test.level, record["level"])
			assert.Equal(t, "command ended", record["msg"])
			assert.Equal(t, test.cause, record["cause"])
			assert.NotContains(t, record["command"], "/")
			assert.Contains(t, record, "duration")
			if err != nil {
				assert.Equal(t, err.Error(), record["error"])
			} else {
				assert.NotContains(t, record, "error")
			}
			if res.PID != 0 {
				assert.EqualValues(t, res.PID, record["pid"])
			}
			if res.ExitCode >= 0 {
				assert.EqualValues(t, res.ExitCode, record["exit_code"])
			}
			assert.NotContains(t, record, "survivors")
		})
	}
}

func TestLoggerEnds(t *testing.T) {
	t.Parallel()
	j := newJournal(slog.LevelInfo)
	option := safeexec.WithLogger(j.Logger)
	show := func(script string, opts ...safeexec.Option) map[string]any {
		t.Helper()
		_, err := testrun.Run(t, exec.Command("sh", "-c", script), append(opts, option)...)
		require.NoError(t, err)
		return j.record(t)
	}
	assert.Equal(t, map[string]any{"bytes": 8.0, "head": "hello"}, show("echo '  hello'")["stdout"])
	assert.Equal(t, map[string]any{"bytes": 3.0, "head": "no"}, show("echo no >&2")["stderr"])
	assert.NotContains(t, show(":"), "stdout")

	long := show("seq 1000")["stdout"].(map[string]any)
	assert.EqualValues(t, 3893, long["bytes"])
	assert.True(t, strings.HasPrefix(long["head"].(string), "1\n2\n"))
	assert.True(t, strings.HasSuffix(long["tail"].(string), "999\n1000"))
	assert.Len(t, long["head"], 1024)
	assert.Len(t, long["tail"], 1024)

	cut := show("seq 2000", safeexec.WithOutputLimit(100))["stdout"].(map[string]any)
	assert.EqualValues(t, 8893-100, cut["dropped"])
	assert.True(t, strings.HasSuffix(cut["tail"].(string), "\n2000"))
}

// Large output that repeats is shown once, and counted.
func TestLoggerRepeats(t *testing.T) {
	t.Parallel()
	j := newJournal(slog.LevelInfo)
	option := safeexec.WithLogger(j.Logger)
	stdout := func(script string) map[string]any {
		t.Helper()
		_, err := testrun.Run(t, exec.Command("sh", "-c", script), option)
		require.NoError(t, err)
		group, _ := j.record(t)["stdout"].(map[string]any)
		return group
	}
	file := t.TempDir() + "/output"
	write := func(n int) { _ = stdout(fmt.Sprintf("seq %d > %s", n, file)) }
	cat := "cat " + file

	write(200)
	first := stdout(cat)
	assert.Contains(t, first, "head")
	for n := 1; n <= 3; n++ {
		assert.Equal(t, map[string]any{"bytes": first["bytes"], "output": "equal-last", "repeats": float64(n)}, stdout(cat))
	}
	assert.Contains(t, stdout(cat+" "), "head", "another command")
	write(201)
	changed := stdout(cat)
	assert.EqualValues(t, 3, changed["last_repeats"])
	assert.Contains(t, changed, "head")
	assert.EqualValues(t, 1, stdout(cat)["repeats"])

	write(0)
	assert.Equal(t, map[string]any{"bytes": 0.0, "last_repeats": 1.0}, stdout(cat), "the count is told")
	write(10)
	short := stdout(cat)
	assert.Equal(t, short, stdout(cat), "up to 256 bytes are shown each time")

	// The first of another option, and commands beyond the bound, are shown.
	for range 2 {
		option = safeexec.WithLogger(j.Logger)
		assert.Contains(t, stdout("seq 300"), "head")
	}
	assert.NotContains(t, stdout("seq 300"), "head")
}

// A logger that is not enabled costs no record and no digest.
func TestLoggerDisabled(t *testing.T) {
	t.Parallel()
	j := newJournal(slog.LevelError)
	_, err := testrun.Run(t, testproc.Command("exit", "1"), safeexec.WithLogger(j.Logger))
	require.Error(t, err)
	assert.Empty(t, j.records(t))
}
