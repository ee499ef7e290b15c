package tree_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A leavingContext does not return from Err once the command runs.
type leavingContext struct {
	context.Context
	cmd   *exec.Cmd
	leave func()
}

func (c leavingContext) Err() error {
	if c.cmd.Process != nil { // set by the goroutine that asks
		c.leave()
	}
	return c.Context.Err()
}

// A context that panics, or ends the goroutine, leaves no command without supervision, and no goroutine that
// reads ahead of standard input.
func TestCallersCodeDoesNotReturn(t *testing.T) {
	for name, leave := range map[string]func(){
		"panic":  func() { panic("on purpose") },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			testproc.NoLeaks(t)
			cmd := testproc.Command("fork", "2")
			cmd.Stdin = testproc.PlainReader{Reader: testproc.Endless{}}
			canary := testproc.WithCanary(t, cmd)
			left := make(chan any, 1)
			go func() {
				defer func() { left <- recover() }()
				ctx := leavingContext{testproc.Deadline(t), cmd, leave}
				_, _ = safeexec.Run(ctx, cmd, safeexec.WithTimeout(testrun.Bound))
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
	for idle := testrun.Soon / 2; ; idle *= 2 {
		res, err := testrun.Run(t, exec.Command("sh", "-c", `sleep "$1" & (sleep "$1"; sleep "$1"; echo late) & exit 0`, "sh", fmt.Sprint(2*idle.Seconds())),
			safeexec.WithLinger(testrun.Unbounded), safeexec.WithIdleTimeout(idle))
		if errors.Is(err, safeexec.ErrIdle) && idle < testrun.Bound/4 { // on a busy machine it has not exited in that time
			continue
		}
		require.NoError(t, err)
		assert.Equal(t, "late", res.Stdout.String())
		assert.Empty(t, res.Killed)
		return
	}
}
