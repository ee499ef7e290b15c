package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asProgress makes this test binary the program.
const asProgress = "SAFEEXEC_TEST_PROGRESS"

func TestMain(m *testing.M) {
	if os.Getenv(asProgress) != "" {
		os.Unsetenv(asProgress)
		main()
	}
	testproc.Main(m, testproc.Idle(poll.CloseIdle), testproc.Warm(func() {
		_, _ = safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(time.Minute))
	}))
}

func TestPlain(t *testing.T) {
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], "-limit", "1")
	cmd.Env = append(os.Environ(), asProgress+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = strings.NewReader("echo a\nexit 3\n")
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Run(), &exit)
	assert.Equal(t, 1, exit.ExitCode())
	assert.Equal(t, "a\n", out.String())
	assert.Equal(t, "1 of 2: echo a: done\n2 of 2: exit 3: exit status 3\n", progress.String())
}

// TestTerminal has one line, written over and over.
func TestTerminal(t *testing.T) {
	g, err := group.New(t.Context(), group.Limit(1), group.Options(safeexec.WithTimeout(time.Minute)))
	require.NoError(t, err)
	jobs := []*group.Job{g.Go(exec.Command("echo", "a")), g.Go(exec.Command("echo", "b"))}
	var out, progress bytes.Buffer
	assert.Zero(t, follow(g, jobs, newBar(&progress, len(jobs)), &out))
	require.NoError(t, g.Shutdown(t.Context()))
	assert.Equal(t, "a\nb\n", out.String())
	assert.Contains(t, progress.String(), "1/2")
	assert.NotContains(t, progress.String(), "\n")
}
