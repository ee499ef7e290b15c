package job

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// TestWithinARun has the program that starts jobs be the command of a run. To stop a job ends that
// one alone; the end of the run ends the others.
func TestWithinARun(t *testing.T) {
	dir := t.TempDir()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), hostVariable+"="+dir, "GORACE=atexit_sleep_ms=0")
	cmd.Stdin = strings.NewReader("a (setsid env -i sleep 1000 &); exec sleep 1001\nb exec sleep 1002\nstop a\nb x\n")
	res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(time.Minute))
	require.NoError(t, err)
	// b, which was not stopped, still has its name.
	assert.Equal(t, []string{"open", "started a", "started b", "stopped a <nil>", "error start job b: job is running"},
		strings.Split(strings.TrimSpace(res.Stdout.String()), "\n"))
	s := open(t, dir)
	for _, name := range []string{"a", "b"} {
		j, err := s.Find(name)
		require.NoError(t, err)
		r, err := read(j.dir())
		require.NoError(t, err)
		assert.False(t, testproc.Lives(r.Trace.PID, r.Trace.Start), name)
		assert.Contains(t, []State{Ended, Gone}, status(t, j).State)
	}
}
