package engine

import (
	"io"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A countingPoller counts how often it is waited for, and calls tooMany when that is too often.
type countingPoller struct {
	poll.Poller
	waits   int
	tooMany func()
}

const fewWaits = 1000

func (p *countingPoller) Wait(until time.Time) ([]poll.Event, error) {
	if p.waits++; p.waits == fewWaits {
		p.tooMany()
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

// While the goroutine of a Writer is in a read that a process holds, the drain sleeps, and gives up the pipe in time.
func TestDrainSleepsWhileAReadIsHeld(t *testing.T) {
	r := &Run{cfg: &Config{Drain: 100 * time.Millisecond, NoReport: true}, mark: time.Now()}
	require.NoError(t, r.Open())
	defer r.Poller.Close()
	source := heldSource{make(chan struct{}), make(chan struct{})}
	release := sync.OnceFunc(func() { close(source.released) })
	poller := &countingPoller{Poller: r.Poller, tooMany: release}
	r.Poller, r.Waiter = poller, r
	r.Exited, r.Empty = true, true
	r.Streams.Init(&r.Ending)
	require.NoError(t, r.Streams.OpenOutput(1))
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
