package poll

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	testproc.Main(m, testproc.Idle(CloseIdle))
}

// eachPoller runs the same test on both pollers, and sees that nothing is left of them.
func eachPoller(t *testing.T, f func(t *testing.T, p Poller)) {
	for _, kind := range []struct {
		name string
		open func() (Poller, error)
	}{{"epoll", newNative}, {"portable", newPortable}} {
		t.Run(kind.name, func(t *testing.T) {
			skipDisabled(t, kind.name)
			testproc.NoLeaks(t)
			p, err := kind.open()
			require.NoError(t, err)
			t.Cleanup(p.Close)
			f(t, p)
		})
	}
}

func skipDisabled(t *testing.T, name string) {
	t.Helper()
	if testproc.IsDisabled(name) {
		t.Skipf("%s=%s", testproc.DisableVariable, name)
	}
}

// A testPipe is a pipe as a run has it: our end does not block.
type testPipe struct{ r, w int }

func newPipe(t testing.TB, ours Direction) *testPipe {
	t.Helper()
	r, w, err := sys.Pipe()
	require.NoError(t, err)
	p := &testPipe{r: r, w: w}
	t.Cleanup(func() { p.closeRead(); p.closeWrite() })
	end := r
	if ours == Write {
		end = w
	}
	require.NoError(t, sys.SetNonblock(end))
	return p
}

func (p *testPipe) write(t testing.TB, s string) {
	t.Helper()
	n, err := sys.Write(p.w, []byte(s))
	require.NoError(t, err)
	require.Equal(t, len(s), n)
}

// read reads once, and returns what there was.
func (p *testPipe) read(t testing.TB) string {
	t.Helper()
	buf := make([]byte, 1<<17)
	n, err := sys.Read(p.r, buf)
	require.NoError(t, err)
	return string(buf[:n])
}

// fill writes until the pipe is full.
func (p *testPipe) fill(t testing.TB) {
	t.Helper()
	buf := make([]byte, 4096)
	for {
		if _, err := sys.Write(p.w, buf); err != nil {
			return
		}
	}
}

func (p *testPipe) closeRead() {
	if p.r >= 0 {
		sys.Close(p.r)
		p.r = -1
	}
}

func (p *testPipe) closeWrite() {
	if p.w >= 0 {
		sys.Close(p.w)
		p.w = -1
	}
}

// next waits for events until there are any, without a deadline of its own: an event that does not
// come fails the test at the test's deadline.
func next(t testing.TB, p Poller) []Event {
	t.Helper()
	end, _ := testproc.Deadline(t).Deadline()
	for {
		events, err := p.Wait(end)
		require.NoError(t, err)
		if len(events) > 0 {
			return events
		}
		require.True(t, time.Now().Before(end), "no event before the test's deadline")
	}
}

// soon is the bound of a Wait that must find nothing. It decides no test: what comes later than
// that is missed, not misjudged.
const soon = 20 * time.Millisecond

// nothing checks that Wait finds nothing until its deadline, and returns not before it.
func nothing(t testing.TB, p Poller) {
	t.Helper()
	end := time.Now().Add(soon)
	events, err := p.Wait(end)
	require.NoError(t, err)
	require.Empty(t, events)
	require.False(t, time.Now().Before(end), "returned before its deadline")
}

// within waits until done is closed, and fails the test with what if it is not by its deadline.
func within(ctx context.Context, t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-ctx.Done():
		t.Fatal(what)
	}
}
