package reports_test

import (
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A function for WithRedact that does not return costs the run its command lines and nothing else: it
// ends as any other, and the error says what is missing.
func TestRedactFails(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	for name, leave := range map[string]func(){
		"panic":  func() { panic("on purpose") },
		"Goexit": runtime.Goexit,
		"stuck":  func() { <-release },
	} {
		res, err := testrun.Expires(t, exec.Command("sleep", "600"),
			safeexec.WithRedact(func([]string) []string { leave(); return []string{"shown"} }))
		require.ErrorIs(t, err, safeexec.ErrTimeout, name)
		var failed *safeexec.RedactError
		require.ErrorAs(t, err, &failed, name)
		assert.Equal(t, name == "panic", failed.Panic != nil, name)
		assert.Equal(t, name == "stuck", failed.Stuck, name)
		assert.NotContains(t, err.Error(), "on purpose", "it may hold a command line")
		assert.Empty(t, res.Command, name)
		require.NotNil(t, res.Report, name)
		for _, p := range res.Report.Processes {
			assert.Empty(t, p.Command, name)
		}
		if name == "stuck" {
			assert.Contains(t, res.Abandoned, safeexec.AbandonedRedact)
		} else {
			assert.NotContains(t, res.Abandoned, safeexec.AbandonedRedact, name) // but the report, on a busy machine
		}
	}
	close(release)
}

// The tree is gone before the function is called.
func TestRedactComesAfterTheEnd(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "600")
	canary := testproc.WithCanary(t, cmd)
	calls := 0
	res, err := testrun.Expires(t, cmd,
		safeexec.WithRedact(func(command []string) []string {
			calls++
			assert.Empty(t, canary.Holders())
			return command[:1]
		}))
	require.ErrorIs(t, err, safeexec.ErrTimeout)
	assert.NotZero(t, calls)
	assert.Equal(t, []string{"sleep"}, res.Command)
}
