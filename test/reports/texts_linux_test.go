package reports_test

import (
	"encoding"
	"encoding/json"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// Each value is read again from what it is written as, and nothing else is read.
func TestTexts(t *testing.T) {
	for _, v := range []struct {
		value encoding.TextMarshaler
		into  encoding.TextUnmarshaler
		text  string
	}{
		{safeexec.CauseWriterFailed, new(safeexec.Cause), "writer failed"},
		{safeexec.CauseNone, new(safeexec.Cause), "none"},
		{safeexec.SignalerOther, new(safeexec.Signaler), "other"},
		{safeexec.ContainmentCgroup, new(safeexec.Containment), "cgroup"},
		{safeexec.AbandonedPipe, new(safeexec.Abandoned), "pipe"},
		{safeexec.TrackLimit | safeexec.TrackCgroup, new(safeexec.Tracks), "limit,cgroup"},
		{safeexec.Tracks(0), new(safeexec.Tracks), ""},
	} {
		text, err := v.value.MarshalText()
		require.NoError(t, err)
		assert.Equal(t, v.text, string(text))
		require.NoError(t, v.into.UnmarshalText(text))
		again, err := v.into.(encoding.TextMarshaler).MarshalText()
		require.NoError(t, err)
		assert.Equal(t, v.text, string(again))
		assert.Error(t, v.into.UnmarshalText([]byte("nonsense")))
	}
}

func TestResultAsJSON(t *testing.T) {
	res, err := safeexec.Run(testproc.Deadline(t), testproc.Command("exit", "3"))
	require.Error(t, err)
	text, err := json.Marshal(struct {
		Cause  safeexec.Cause
		Tracks safeexec.Tracks
	}{res.Cause, res.Tracks})
	require.NoError(t, err)
	assert.Contains(t, string(text), `"Cause":"exited"`)
	whole, err := json.Marshal(res)
	require.NoError(t, err)
	assert.Contains(t, string(whole), `"Cause":"exited"`)
}

func TestDescribe(t *testing.T) {
	describe := func(cmd *exec.Cmd, opts ...safeexec.Option) string {
		res, err := safeexec.Run(testproc.Deadline(t), cmd, opts...)
		return res.Describe(err)
	}
	expired := func(res safeexec.Result, err error) string { return res.Describe(err) }
	assert.Regexp(t, `^true succeeded in \S+\.$`, describe(exec.Command("true", "secret")))
	assert.Regexp(t, `^sh failed with exit status 3 after \S+\.$`, describe(exec.Command("sh", "-c", "exit 3")))
	assert.Regexp(t, `^sh was killed by a signal \(killed\) from elsewhere after \S+\.$`, describe(exec.Command("sh", "-c", "kill -KILL $$")))
	assert.Regexp(t, `^sleep was ended after \S+ \(timeout\): .*timed out.*\.$`, expired(testrun.Expires(t, exec.Command("sleep", "600"))))
	assert.Regexp(t, `^no-such-program was not started: .*\.$`, describe(exec.Command("/no-such-program", "secret")))
	assert.Regexp(t, `^true \*\*\* succeeded in \S+\.$`, describe(exec.Command("true", "secret"),
		safeexec.WithRedact(func(args []string) []string { return []string{args[0], "***"} })))
}

func TestRetryable(t *testing.T) {
	assert.False(t, safeexec.Retryable(nil))
	for _, cmd := range []*exec.Cmd{exec.Command("/no-such-program"), exec.Command("false")} {
		_, err := safeexec.Run(testproc.Deadline(t), cmd)
		require.Error(t, err)
		assert.False(t, safeexec.Retryable(err), err)
	}
	_, err := testrun.Expires(t, exec.Command("sleep", "600"))
	assert.False(t, safeexec.Retryable(err), "part of the work may have been done")
	_, err = safeexec.Run(testproc.Deadline(t), exec.Command(testproc.BusyProgram(t)))
	assert.True(t, safeexec.Retryable(err), err)
}
