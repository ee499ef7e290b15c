package cgroup

import (
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	testproc.Main(m)
}

// realLeaf makes a leaf that is removed at the end of the test, or skips the test and says why.
func realLeaf(t testing.TB) *Leaf {
	t.Helper()
	l, err := Make("")
	if err != nil {
		t.Skipf("needs a cgroup v2 in which we may make another: %v", err)
	}
	t.Cleanup(func() {
		_ = l.Kill()
		require.NoError(t, l.Remove(end(t)))
		require.NoDirExists(t, l.dir)
	})
	return l
}

// startIn starts a command in the leaf; it is reaped at the end of the test.
func startIn(t testing.TB, l *Leaf, cmd *exec.Cmd) {
	t.Helper()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	l.Attach(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		if refused := l.Refusal(); refused != nil {
			t.Skipf("needs a cgroup v2 in which we may start a command: %v", refused)
		}
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		_ = l.Kill()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// startReady starts a helper in the leaf and returns the numbers of its ready line.
func startReady(t testing.TB, l *Leaf, cmd *exec.Cmd) []int {
	t.Helper()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { r.Close() })
	cmd.Stdout = w
	startIn(t, l, cmd)
	require.NoError(t, w.Close())
	return testproc.Ready(t, io.Reader(r))
}

// end is when a test has to give up.
func end(t testing.TB) time.Time {
	t.Helper()
	d, _ := testproc.Deadline(t).Deadline()
	return d
}

// eventually looks until ok or the test's deadline.
func eventually(t testing.TB, ok func() bool, what string) {
	t.Helper()
	for last := end(t); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(last) {
			t.Fatal("never came about: ", what)
		}
	}
}

func unpopulated(t testing.TB, l *Leaf) {
	t.Helper()
	eventually(t, func() bool {
		populated, err := l.Populated()
		require.NoError(t, err)
		return !populated
	}, "populated 0")
}
