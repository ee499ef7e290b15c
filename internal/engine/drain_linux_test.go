package engine

import (
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A countingPoller counts how often it is waited for, and calls a function at a certain time.
type countingPoller struct {
	poll.Poller
	waits, at int
	call      func()
}

const fewWaits = 1000

func (p *countingPoller) Wait(until time.Time) ([]poll.Event, error) {
	if p.waits++; p.waits == p.at {
		p.call()
	}
	return p.Poller.Wait(until)
}

// drained returns a run with an output that waits to be drained, and the poller that it waits on.
func drained(t *testing.T, timeout time.Duration) (*Run, *countingPoller) {
	t.Helper()
	r := &Run{ctx: t.Context(), cmd: new(exec.Cmd), host: new(listener), cfg: &Config{Drain: timeout, NoReport: true}, mark: time.Now()}
	require.NoError(t, r.Open())
	poller := &countingPoller{Poller: r.Poller}
	t.Cleanup(poller.Poller.Close)
	r.Poller, r.Waiter = poller, r
	r.Exited, r.Empty = true, true
	r.Streams.Init(&r.Ending)
	require.NoError(t, r.Streams.OpenOutput(1))
	return r, poller
}

// A machine that stands still uses up the drain timeout without a look. One whose descriptor is in nobody's table, as
// that of a child on its way to its exec may be, has some looks to let go of the pipe.
func TestTimeAloneHoldsNoPipe(t *testing.T) {
	r, poller := drained(t, 0)
	s := &r.Streams.Each[1]
	s.Capture(100)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(s.Child.Fd())), nil, 0))
	require.NoError(t, s.Child.Close())
	poller.at, poller.call = 3, func() {
		assert.NoError(t, unix.Close(pair[0]))
		assert.NoError(t, unix.Close(pair[1])) // and with it what is in there
	}
	(&drainer{Run: r}).drain()
	assert.False(t, r.Facts.Held[1])
	assert.Empty(t, r.Facts.Holders)
}

// A heldSource is a pipe of which a read does not come back before released is closed.
type heldSource struct{ reads, released chan struct{} }

func (s heldSource) Await(try func(pipe io.Reader) bool) {
	for !try(s) {
	}
}

func (s heldSource) Interrupt() {}

func (s heldSource) Read([]byte) (int, error) {
	close(s.reads)
	<-s.released
	return 0, syscall.EIO
}

// While the goroutine of a Writer is in a read that a process holds, the drain sleeps, and gives up the pipe in time.
func TestDrainSleepsWhileAReadIsHeld(t *testing.T) {
	r, poller := drained(t, 100*time.Millisecond)
	source := heldSource{make(chan struct{}), make(chan struct{})}
	release := sync.OnceFunc(func() { close(source.released) })
	poller.at, poller.call = fewWaits, release
	s := &r.Streams.Each[1]
	s.Stream(testproc.PlainWriter{Writer: io.Discard}, nil, r.Wake)
	s.Out.Lend(func() drain.Source { return source })
	for lent := false; !lent; lent = s.Out.Drawing() { // it is, once it goes on for a while
		_, err := s.Child.WriteString("some")
		require.NoError(t, err)
		r.Streams.Pull(1)
	}
	<-source.reads
	_, err := s.Child.WriteString("owed")
	require.NoError(t, err)

	(&drainer{Run: r}).drain()
	assert.Less(t, poller.waits, fewWaits)
	assert.Equal(t, []Abandoned{AbandonedPipe}, r.Facts.Abandoned)
	assert.True(t, s.Out.Reading(), "nobody has waited for it")
	release()
	require.NoError(t, s.Child.Close())
	testproc.Wait(t, func() bool { return !s.Out.Reading() })
}
