package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// asKilltree makes this test binary the program.
const asKilltree = "SAFEEXEC_TEST_KILLTREE"

func TestMain(m *testing.M) {
	if os.Getenv(asKilltree) != "" {
		os.Unsetenv(asKilltree)
		main()
		return
	}
	testproc.Main(m)
}

func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(testproc.Deadline(t), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asKilltree+"=1", "GORACE=atexit_sleep_ms=0")
	return cmd
}

// killtree runs the program and returns what it printed and its exit code.
func killtree(t *testing.T, args ...string) (string, int) {
	t.Helper()
	cmd := program(t, args...)
	out, err := cmd.Output()
	if err != nil {
		require.IsType(t, &exec.ExitError{}, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// grow starts a tree, all of which holds the canary, and returns the PIDs of its ready line and what it says
// after that.
func grow(t *testing.T, cmd *exec.Cmd) (*testproc.Canary, []int, io.Reader) {
	t.Helper()
	canary := testproc.NewCanary(t)
	cmd.ExtraFiles = []*os.File{canary.File()}
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	canary.CloseParent()
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return canary, testproc.Ready(t, out), out
}

func TestKilltree(t *testing.T) {
	canary, pids, _ := grow(t, testproc.Command("fork", "2"))
	st, err := procfs.ReadStat(pids[0])
	require.NoError(t, err)

	out, code := killtree(t, fmt.Sprintf("%d:%d", pids[0], st.StartTime+1))
	assert.Equal(t, 2, code, "it began at another time")
	assert.Empty(t, out)

	out, code = killtree(t, fmt.Sprintf("%d:%d", pids[0], st.StartTime))
	assert.Zero(t, code)
	canary.WaitGone(t)
	for _, pid := range pids {
		assert.Contains(t, out, fmt.Sprintf("ended    %d ", pid))
	}
	assert.Equal(t, len(pids), strings.Count(out, "\n"))
}

func TestNotDone(t *testing.T) {
	for _, args := range [][]string{{}, {"x"}, {"1:x"}, {"7", "8"}, {"-no-such-flag"}, {"1"}, {"0"},
		{fmt.Sprint(os.Getpid())}, {"1073741824"}} {
		out, code := killtree(t, args...)
		assert.Equal(t, 2, code, args)
		assert.Empty(t, out)
	}
}

// Interrupted before its time it says what is left.
func TestInterrupted(t *testing.T) {
	_, pids, said := grow(t, exec.Command("sh", "-c", `trap "echo asked" TERM; echo ready $$; while :; do sleep 0.01; done`))
	cmd := program(t, "-grace", "1h", fmt.Sprint(pids[0]))
	var out strings.Builder
	cmd.Stdout = &out
	require.NoError(t, cmd.Start())
	require.Equal(t, "asked", testproc.ReadLine(t, said))
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	cmd.Wait()
	assert.Equal(t, 1, cmd.ProcessState.ExitCode(), out.String())
	assert.Contains(t, out.String(), fmt.Sprintf("survived %d ", pids[0]))
}
