package safeexec_test

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A slowWriter shows its first line, and returns from what comes behind once it may.
type slowWriter struct {
	buf   []byte
	line  chan string // capacity 1
	shown bool
	open  chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.shown {
		<-w.open
		return len(p), nil
	}
	w.buf = append(w.buf, p...)
	if line, _, found := strings.Cut(string(w.buf), "\r\n"); found {
		w.line <- line
		w.shown = true
	}
	return len(p), nil
}

// A stranger has the terminal open, and output is in it that nobody has read when the tree is gone. How much cannot be
// asked: what there is is read, and the run ends.
func TestPTYHeldWithUnreadOutput(t *testing.T) {
	testproc.NoLeaks(t)
	needPTY(t)
	out := &slowWriter{line: make(chan string, 1), open: make(chan struct{})}
	release := sync.OnceFunc(func() { close(out.open) })
	defer release()
	cmd := testproc.Shell("tty; while :; do echo ................................................; done")
	cmd.Stdout = out
	p, err := safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithPTY(24, 80),
		safeexec.WithLinger(0), safeexec.WithDrainTimeout(testrun.Bound))
	require.NoError(t, err)
	held, err := os.OpenFile(<-out.line, os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	defer held.Close()
	testproc.Wait(t, func() bool { waits, _ := safeexec.OutputWaits(p); return waits })
	p.Kill()
	testproc.Wait(t, func() bool { _, decided := safeexec.OutputWaits(p); return decided })
	release()
	select {
	case <-p.Done():
	case <-testproc.Deadline(t).Done():
		require.Fail(t, "the run goes on for what never comes")
	}
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	require.ErrorIs(t, err, safeexec.ErrPipeHeld)
	assert.Zero(t, res.Stdout.Dropped)
	assert.Empty(t, res.Survivors)
}

// needPTY skips a test where there are no pseudo-terminals.
func needPTY(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("needs pseudo-terminals: %v", err)
	}
	f.Close()
}
