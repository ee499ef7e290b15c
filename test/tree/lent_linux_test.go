package tree_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// The goroutine of a caller's Writer reads the pipe by itself once a stream goes on. What holds for
// short streams has to hold for those.

// enough is more output than a stream has before that.
const enough = "1000000"

func TestLongStreamThenSilence(t *testing.T) {
	t.Parallel()
	for idle := testrun.Soon; ; idle *= 2 {
		cmd := exec.Command("sh", "-c", "head -c "+enough+" /dev/zero; sleep 61")
		var n counter
		cmd.Stdout = &n
		res, err := testrun.Run(t, cmd, safeexec.WithIdleTimeout(idle))
		assert.ErrorIs(t, err, safeexec.ErrIdle)
		if n < 1_000_000 && idle < testrun.Bound/4 { // it was not silent, but the machine busy
			continue
		}
		assert.EqualValues(t, 1_000_000, n)
		assert.EqualValues(t, 1_000_000, res.Stdout.Total)
		assert.Zero(t, res.Stdout.Dropped)
		break
	}

	// Output that comes is a sign of life, whoever reads it.
	_, err := testrun.Talks(t, func(pause string) *exec.Cmd {
		cmd := exec.Command("sh", "-c", "head -c "+enough+" /dev/zero; for i in 1 2 3 4 5 6; do sleep "+pause+"; echo $i; done")
		cmd.Stdout = new(counter)
		return cmd
	})
	assert.NoError(t, err)
}

// counter counts, and is called by one goroutine.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

// A Writer that is stuck holds the command up: that is not silence, and its timeout ends it.
func TestLongStreamStuck(t *testing.T) {
	t.Parallel()
	for idle := testrun.Soon; ; idle *= 2 {
		stalled, passed := testproc.NewStalledWriter(), counter(0)
		defer stalled.Release()
		cmd := exec.Command("head", "-c", "4000000", "/dev/zero") // the pipe may have been enlarged
		cmd.Stdout = stuckAfter{stalled, &passed}
		p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithIdleTimeout(idle), safeexec.WithDrainTimeout(testrun.Soon))
		require.NoError(t, err)
		select {
		case <-stalled.Entered():
			_ = p.SetTimeout(2 * idle)
		case <-p.Done():
		}
		res, err := p.Wait()
		if errors.Is(err, safeexec.ErrIdle) && idle < testrun.Bound/4 { // the machine is busy
			continue
		}
		assert.ErrorIs(t, err, safeexec.ErrTimeout)
		assert.NotErrorIs(t, err, safeexec.ErrIdle)
		assert.ErrorIs(t, err, safeexec.ErrWriterStuck)
		assert.Contains(t, res.Abandoned, safeexec.AbandonedStdout)
		assert.Equal(t, res.Stdout.Total-res.Stdout.Dropped, int64(passed), "what it took by then")
		return
	}
}

// stuckAfter counts, and is stuck after a while.
type stuckAfter struct {
	stalled *testproc.StalledWriter
	passed  *counter
}

func (w stuckAfter) Write(p []byte) (int, error) {
	if *w.passed > 300_000 {
		return w.stalled.Write(p)
	}
	return w.passed.Write(p)
}

// A pipe that somebody holds who is not of the tree, here this process itself, is taken back, read to
// its end and given up.
func TestLongStreamHeld(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "head -c "+enough+" /dev/zero; (echo >&2); read _; printf last")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	var n counter
	cmd.Stdout = &n
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithLinger(testrun.Soon), safeexec.WithDrainTimeout(testrun.Bound))
	require.NoError(t, err)
	_, err = stderr.Read(make([]byte, 1))
	require.NoError(t, err)
	held, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/1", p.PID()), os.O_WRONLY, 0)
	require.NoError(t, err)
	defer held.Close()
	require.NoError(t, stdin.Close())
	res, err := p.Wait()
	assert.ErrorIs(t, err, safeexec.ErrPipeHeld)
	assert.EqualValues(t, 1_000_004, n)
	assert.EqualValues(t, 1_000_004, res.Stdout.Total)
	assert.Zero(t, res.Stdout.Dropped)
	assert.NotContains(t, res.Abandoned, safeexec.AbandonedStdout)
}

func TestLongStreamStopsAtTheLimit(t *testing.T) {
	t.Parallel()
	var n counter
	cmd := testproc.Command("spew-forever")
	cmd.Stdout = &n
	_, err := testrun.Run(t, cmd, safeexec.WithOverflow(safeexec.OverflowStop), safeexec.WithOutputLimit(5_000_000))
	assert.ErrorIs(t, err, safeexec.ErrOutputLimit)
	assert.EqualValues(t, 5_000_000, n)
}
