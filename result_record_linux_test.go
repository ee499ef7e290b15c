package safeexec_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// again returns a result that was written as JSON and read.
func again(t *testing.T, res safeexec.Result) safeexec.Result {
	t.Helper()
	text, err := json.Marshal(res)
	require.NoError(t, err)
	back := safeexec.Result{PID: 7, Program: "what was there before"}
	require.NoError(t, json.Unmarshal(text, &back), "%s", text)
	return back
}

// expected is what can be read again of a result.
func expected(res safeexec.Result) safeexec.Result {
	res.State = nil
	res.Times.Started = res.Times.Started.Round(0)
	return res
}

func TestResultAsJSON(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func() (safeexec.Result, error){
		"exit": func() (safeexec.Result, error) { return testrun.Run(t, testproc.Command("exit", "3")) },
		"dropped": func() (safeexec.Result, error) {
			return testrun.Run(t, testproc.Command("spew", "300000"), safeexec.WithOutputLimit(1001), safeexec.WithRedact(safeexec.RedactSecrets))
		},
		"timeout": func() (safeexec.Result, error) {
			return testrun.Expires(t, testproc.Shell("echo before; sleep 600 & wait"))
		},
		"nothing started": func() (safeexec.Result, error) { return testrun.Run(t, exec.Command("/nowhere/program")) },
		"panic": func() (safeexec.Result, error) {
			return testrun.Run(t, testproc.Command("exit"), safeexec.WithObserver(observerFunc(func() safeexec.Observation { panic("oh") })))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			res, _ := run()
			back := again(t, res)
			want := expected(res)
			want.ObserverErr, back.ObserverErr = text(want.ObserverErr), text(back.ObserverErr)
			if want.Report != nil { // it has a method of its own for the log, and is compared by what it says
				assert.Equal(t, want.Report.String(), back.Report.String())
				want.Report, back.Report = nil, nil
			}
			want.Times.Started, back.Times.Started = want.Times.Started.UTC(), back.Times.Started.UTC()
			assert.Equal(t, want, back)
			assert.Equal(t, res.Stdout.String(), back.Stdout.String())
			assert.Equal(t, res.ShellCode(), back.ShellCode())
			assert.Equal(t, res.Describe(nil), back.Describe(nil))
		})
	}
	var res safeexec.Result
	assert.Error(t, json.Unmarshal([]byte(`{"Stdout": 3}`), &res))
	assert.Error(t, json.Unmarshal([]byte(`{"Cause": "nonsense"}`), &res))
}

// text is an error with the text of another.
func text(err error) error {
	if err == nil {
		return nil
	}
	return errors.New(err.Error())
}

// What the errors of a result say is kept.
func TestResultErrorsAsJSON(t *testing.T) {
	t.Parallel()
	res := safeexec.Result{FDErr: context.Canceled, Stdout: safeexec.Stream{Total: 3, Dropped: 3, Err: context.DeadlineExceeded}}
	back := again(t, res)
	assert.EqualError(t, back.FDErr, context.Canceled.Error())
	assert.EqualError(t, back.Stdout.Err, context.DeadlineExceeded.Error())
	assert.Equal(t, safeexec.Result{}, again(t, safeexec.Result{}))
}

// A result and an error are groups with the names that the records of WithLogger have.
func TestResultInALog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	res, err := testrun.Expires(t, testproc.Shell("exec sleep 600"))
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	logger.Info("over", "run", res, "err", err)
	for _, part := range []string{
		" run.command=sh ", " run.pid=", " run.cause=timeout ", " run.signal=terminated ", " run.signaled_by=safeexec ", " run.duration=",
		" err.op=run ", " err.command=sh ", " err.pid=", ` err.error="run sh (pid `,
	} {
		assert.Contains(t, log.String(), part)
	}
	log.Reset()
	res, err = testrun.Run(t, exec.Command("/nowhere/program"))
	logger.Info("over", "run", res, "err", err)
	assert.Contains(t, log.String(), " run.command=program run.cause=\"start failed\" ")
	assert.Contains(t, log.String(), " err.op=start err.command=program err.error=")
}
