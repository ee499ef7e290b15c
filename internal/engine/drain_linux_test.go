package engine

import (
	"io"
	"os"
	"os/exec"
	"strconv"
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

// A countingPoller counts how often it is waited for, and calls tooMany when that is too often.
type countingPoller struct {
	poll.Poller
	waits   int
	tooMany func()
	onWait  func() // or nil
}

const fewWaits = 1000

func (p *countingPoller) Wait(until time.Time) ([]poll.Event, error) {
	if p.waits++; p.waits == fewWaits {
		p.tooMany()
	}
	if p.onWait != nil {
		p.onWait()
	}
	return p.Poller.Wait(until)
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

// drained returns a run whose command has exited, with a pipe for standard output that is kept, and what counts its
// turns.
func drained(t *testing.T, cfg *Config, tooMany func()) (*Run, *countingPoller) {
	t.Helper()
	r := &Run{ctx: t.Context(), cmd: new(exec.Cmd), host: new(listener), cfg: cfg, mark: time.Now()}
	require.NoError(t, r.Open())
	poller := &countingPoller{Poller: r.Poller, tooMany: tooMany}
	t.Cleanup(poller.Close)
	r.Poller, r.Waiter = poller, r
	r.Exited = true
	r.Streams.Init(&r.Climber)
	require.NoError(t, r.Streams.OpenOutput(1))
	return r, poller
}

// readerHolds has a pipe held by a thread that reads from it by a descriptor of its own, after the last writer is gone.
func readerHolds(t *testing.T, child *os.File) (letGo func()) {
	t.Helper()
	reader, err := os.Open("/proc/self/fd/" + strconv.Itoa(int(child.Fd())))
	require.NoError(t, err)
	t.Cleanup(func() { reader.Close() })
	_, err = child.WriteString("some")
	require.NoError(t, err)
	require.NoError(t, child.Close())
	return testproc.HoldByReading(t, int(reader.Fd()))
}

// A pipe that is left and held by a reader, without a writer, is given up at the drain timeout.
func TestLeftPipeHeldByAReader(t *testing.T) {
	testproc.NeedsMissingPages(t)
	var letGo func()
	r, poller := drained(t, &Config{Drain: 100 * time.Millisecond, NoReport: true}, func() { letGo() })
	r.left = true
	s := &r.Streams.Each[1]
	s.Capture(1 << 20)
	letGo = readerHolds(t, s.Child)
	require.True(t, s.End.Hangup())

	(&drainer{Run: r}).drain()
	assert.Less(t, poller.waits, fewWaits)
	assert.Equal(t, []Abandoned{AbandonedPipe}, r.Facts.Abandoned)
	assert.Empty(t, r.Facts.LeftPipes)
	letGo()
	testproc.Wait(t, func() bool { return !s.End.Held() })
}

// Where the drain timeout is over, since the Writer takes its time, a call on the pipe that is late for a moment is
// waited for.
func TestLateCallAfterTheDrainTimeout(t *testing.T) {
	testproc.NeedsMissingPages(t)
	r, poller := drained(t, &Config{Drain: time.Nanosecond, NoReport: true}, func() {})
	s := &r.Streams.Each[1]
	s.Capture(1 << 20)
	letGo := readerHolds(t, s.Child)
	poller.onWait = func() {
		if poller.waits > 1 { // the first is behind the call
			letGo()
			testproc.Wait(t, func() bool { return !s.End.Held() })
		}
	}
	(&drainer{Run: r}).drain()
	assert.Empty(t, r.Facts.Abandoned)
	assert.Zero(t, r.Facts.Held)
}

// A machine that stands still uses up the drain timeout without a look. A pipe whose descriptor is in no table, as that
// of a child on its way to its exec may be, gets some looks before it counts as held.
func TestTimeAloneHoldsNoPipe(t *testing.T) {
	r, poller := drained(t, &Config{NoReport: true}, func() {})
	r.Empty = true
	s := &r.Streams.Each[1]
	s.Capture(100)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(int(s.Child.Fd())), nil, 0))
	require.NoError(t, s.Child.Close())
	poller.onWait = func() {
		if poller.waits == 3 {
			assert.NoError(t, unix.Close(pair[0]))
			assert.NoError(t, unix.Close(pair[1])) // and with it what is in there
		}
	}
	(&drainer{Run: r}).drain()
	assert.False(t, r.Facts.Held[1])
	assert.Empty(t, r.Facts.Holders)
}

// A call that is late has its time, however long ago another one was.
func TestEachLateCallHasItsTime(t *testing.T) {
	r, _ := drained(t, &Config{Drain: never, NoReport: true}, func() {})
	s := &r.Streams.Each[1]
	s.Capture(100)
	long, now := time.Now().Add(-time.Hour), time.Now()
	first := s.HeldUntil(long, long)
	assert.Equal(t, first, s.HeldUntil(long, now))
	(&drainer{Run: r}).settleOutput(1, now, now.Add(never), now.Add(never))
	assert.Equal(t, now.Add(first.Sub(long)), s.HeldUntil(long, now))
	r.Streams.Close(s)
}

// While the goroutine of a Writer is in a read that a process holds, the drain sleeps, and gives up the pipe in time.
func TestDrainSleepsWhileAReadIsHeld(t *testing.T) {
	source := heldSource{make(chan struct{}), make(chan struct{})}
	release := sync.OnceFunc(func() { close(source.released) })
	r, poller := drained(t, &Config{Drain: 100 * time.Millisecond, NoReport: true}, release)
	r.Empty = true
	s := &r.Streams.Each[1]
	s.Stream(testproc.PlainWriter{Writer: io.Discard}, nil, r.Wake)
	s.Out.Lend(func() drain.Source { return source })
	child := int(s.Child.Fd())
	require.NoError(t, unix.SetNonblock(child, true))  // the pipe is full where the Writer's goroutine gets no time
	for lent := false; !lent; lent = s.Out.Drawing() { // it is, once it goes on for a while
		if _, err := unix.Write(child, []byte("some")); err != unix.EAGAIN {
			require.NoError(t, err)
		}
		r.Streams.Pull(1)
	}
	<-source.reads
	if _, err := unix.Write(child, []byte("owed")); err != unix.EAGAIN { // else the pipe is full of what is owed
		require.NoError(t, err)
	}

	(&drainer{Run: r}).drain()
	assert.Less(t, poller.waits, fewWaits)
	assert.Equal(t, []Abandoned{AbandonedPipe}, r.Facts.Abandoned)
	assert.True(t, s.Out.Reading(), "nobody has waited for it")
	release()
	require.NoError(t, s.Child.Close())
	testproc.Wait(t, func() bool { return !s.Out.Reading() })
}
