package testrun

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Explained asks again and again why a process does not go on, until the verdict is the one that the
// test waits for. What is wrong for good ends in the test's deadline, with the last report.
func Explained(t testing.TB, pid int, verdict string, opts ...safeexec.Option) safeexec.Report {
	t.Helper()
	pattern := regexp.MustCompile(verdict)
	ctx := testproc.Deadline(t)
	var last safeexec.Report
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		report, err := safeexec.Explain(ctx, pid, opts...)
		if ctx.Err() != nil {
			t.Fatalf("the verdict never was %s, but at last:\n%v", verdict, last)
		}
		if !errors.Is(err, safeexec.ErrTimeout) { // on a machine that is busy with something else
			require.NoError(t, err)
		}
		if pattern.MatchString(report.Verdict) {
			assert.NotContains(t, report.Verdict, "\n")
			assert.Equal(t, pid, report.PID)
			assert.True(t, strings.HasPrefix(report.String(), report.Verdict+"\n"))
			return report
		}
		last = report
		time.Sleep(pause)
	}
}
