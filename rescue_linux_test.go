package safeexec_test

import (
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// Code of the caller's that panics, or ends the goroutine, leaves no command without supervision.
func TestCallersCodeDoesNotReturn(t *testing.T) {
	for name, leave := range map[string]func(){
		"panic":  func() { panic("on purpose") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			testproc.NoLeaks(t)
			cmd := testproc.Command("fork", "2")
			canary := inherits(t, cmd)
			left := make(chan any, 1)
			go func() {
				defer func() { left <- recover() }()
				_, _ = safeexec.Run(testproc.Deadline(t), cmd, safeexec.WithTimeout(soon), safeexec.WithReportBound(bound),
					safeexec.WithRedact(func([]string) []string { leave(); return nil }))
			}()
			recovered := <-left
			assert.Equal(t, name == "panic", recovered != nil)
			canary.WaitGone(t)
			require.NotNil(t, cmd.Process)
			testproc.WaitState(t, cmd.Process.Pid, "\x00")
		})
	}
}

// Silence is no reason to cut a linger short.
func TestLingerOutlastsTheIdleTimeout(t *testing.T) {
	testproc.NoLeaks(t)
	res, err := run(t, exec.Command("sh", "-c", "sleep 0.2 & (sleep 0.4; echo late) & exit 0"),
		safeexec.WithLinger(unbounded), safeexec.WithIdleTimeout(100*time.Millisecond))
	require.NoError(t, err)
	assert.Equal(t, "late", res.Stdout.String())
	assert.Empty(t, res.Killed)
}

// Nor is the goroutine left that reads ahead of standard input, and has nobody any more to give it to.
func TestCallersCodeLeavesNoReader(t *testing.T) {
	testproc.NoLeaks(t)
	cmd := exec.Command("sleep", "600")
	cmd.Stdin = plainReader{endless{}}
	left := make(chan any)
	go func() {
		defer func() { left <- recover() }()
		_, _ = safeexec.Run(testproc.Deadline(t), cmd, safeexec.WithTimeout(soon), safeexec.WithReportBound(bound),
			safeexec.WithRedact(func([]string) []string { panic("refuses") }))
	}()
	assert.Equal(t, "refuses", <-left)
}
