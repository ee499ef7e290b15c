package safeexec_test

import (
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// holdPipes has a process outside of any tree open the output pipes of pid, stdout as 12 and stderr as
// 13, and hold them until the test ends, as no descendant would: it was handed nothing.
func holdPipes(t *testing.T, pid int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(testproc.HasProgram(t, "bash"), "-c",
		`exec 12>/proc/$0/fd/1 13>/proc/$0/fd/2 && echo ready $$ && exec sleep 600 >/dev/null 2>&1`, strconv.Itoa(pid))
	startStranger(t, cmd)
	return cmd
}

// startStranger starts cmd and returns its ready line. It is killed at the end of the test.
func startStranger(t *testing.T, cmd *exec.Cmd) []int {
	t.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	cmd.Stderr = os.Stderr
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return testproc.Ready(t, out)
}
