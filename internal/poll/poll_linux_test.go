package poll

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestReadReadiness(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 7))
		nothing(t, p)
		pipe.write(t, "ab")
		want := []Event{{Token: 7, Ready: true}}
		for range 3 { // what is ready stays ready
			assert.Equal(t, want, next(t, p))
		}
		assert.Equal(t, "ab", pipe.read(t))
		nothing(t, p)
		pipe.write(t, "c")
		assert.Equal(t, want, next(t, p))
	})
}

func TestReadyBeforeAdd(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		pipe.write(t, "ab")
		require.NoError(t, p.Add(pipe.r, Read, 0))
		assert.Equal(t, []Event{{Token: 0, Ready: true}}, next(t, p))
	})
}

// The end of an empty pipe is a hangup and no readiness: it is taken for the end without a read.
func TestHangupWithoutData(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		nothing(t, p)
		pipe.closeWrite()
		for range 3 {
			assert.Equal(t, []Event{{Token: 1, Hangup: true}}, next(t, p))
		}
	})
}

// While data is left the event must say Ready, or the run would take the hangup for the end and
// lose the rest.
func TestHangupWithData(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		pipe.write(t, "last words")
		pipe.closeWrite()
		assert.Equal(t, []Event{{Token: 1, Ready: true, Hangup: true}}, next(t, p))
		assert.Equal(t, "last words", pipe.read(t))
		assert.Equal(t, []Event{{Token: 1, Hangup: true}}, next(t, p))
		assert.Empty(t, pipe.read(t))
	})
}

func TestWriteReadiness(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Write)
		require.NoError(t, p.Add(pipe.w, Write, 3))
		want := []Event{{Token: 3, Ready: true}}
		assert.Equal(t, want, next(t, p))
		pipe.fill(t)
		nothing(t, p)
		assert.NotEmpty(t, pipe.read(t))
		assert.Equal(t, want, next(t, p))
		pipe.fill(t)
		nothing(t, p)
		pipe.closeRead()
		events := next(t, p)
		require.Len(t, events, 1)
		assert.Equal(t, 3, events[0].Token)
		assert.True(t, events[0].Hangup, "nobody reads any more")
	})
}

func TestManyAtOnce(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		const n = 50 // more than one call returns
		pipes := make([]*testPipe, n)
		for i := range pipes {
			pipes[i] = newPipe(t, Read)
			require.NoError(t, p.Add(pipes[i].r, Read, 100+i))
			pipes[i].write(t, "x")
		}
		// The test reads none: those that stay ready must not keep the others from their turn.
		seen := make(map[int]bool)
		for rounds := 0; len(seen) < n; rounds++ {
			require.Less(t, rounds, 1000*n, "some are never reported: %d of %d", len(seen), n)
			for _, e := range next(t, p) {
				assert.True(t, e.Ready)
				seen[e.Token] = true
			}
		}
		for token := range seen {
			assert.True(t, 100 <= token && token < 100+n, token)
		}
	})
}

func TestRemove(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		a, b := newPipe(t, Read), newPipe(t, Read)
		require.NoError(t, p.Add(a.r, Read, 1))
		require.NoError(t, p.Add(b.r, Read, 2))
		a.write(t, "x")
		b.write(t, "x")
		assert.NotEmpty(t, next(t, p))
		require.NoError(t, p.Remove(a.r))
		assert.Error(t, p.Remove(a.r), "is not watched any more")
		for range 5 {
			assert.Equal(t, []Event{{Token: 2, Ready: true}}, next(t, p))
		}
		require.NoError(t, p.Remove(b.r))
		nothing(t, p)

		require.NoError(t, p.Add(a.r, Read, 5))
		assert.Equal(t, []Event{{Token: 5, Ready: true}}, next(t, p), "under its new token")
	})
}

func TestRemoveAndAddAgain(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		for i := range 200 {
			require.NoError(t, p.Add(pipe.r, Read, i))
			pipe.write(t, "x")
			assert.Equal(t, []Event{{Token: i, Ready: true}}, next(t, p))
			if i%2 == 0 {
				assert.Equal(t, "x", pipe.read(t))
				require.NoError(t, p.Remove(pipe.r))
			} else {
				require.NoError(t, p.Remove(pipe.r))
				assert.Equal(t, "x", pipe.read(t))
			}
		}
		nothing(t, p)
	})
}

// The number of a descriptor that was removed and closed is given to the next one.
func TestNumberReused(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		for i := range 50 {
			pipe := newPipe(t, Read)
			require.NoError(t, p.Add(pipe.r, Read, i))
			pipe.write(t, "x")
			assert.Equal(t, []Event{{Token: i, Ready: true}}, next(t, p))
			require.NoError(t, p.Remove(pipe.r))
			pipe.closeRead()
			pipe.closeWrite()
		}
	})
}

func TestAddClosedDescriptor(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		assert.Error(t, p.Add(-1, Read, 1))
		assert.Error(t, p.Add(1<<20, Read, 1))
		assert.Error(t, p.Remove(1<<20))
	})
}

// A run's token of a member is its PID and more, and is to come back as it was.
func TestLargeToken(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		const token = 4 + 1<<22 // PID_MAX_LIMIT
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, token))
		pipe.write(t, "x")
		assert.Equal(t, token, next(t, p)[0].Token)
	})
}

func TestPidfd(t *testing.T) {
	skipDisabled(t, "pidfd")
	eachPoller(t, func(t *testing.T, p Poller) {
		cmd := testproc.Command("echo-stdin")
		stdin, err := cmd.StdinPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		fd, err := sys.PidfdOpen(cmd.Process.Pid)
		require.NoError(t, err)
		defer sys.Close(fd)
		require.NoError(t, p.Add(fd, Read, 9))
		nothing(t, p)
		require.NoError(t, stdin.Close())
		for range 2 {
			assert.Equal(t, []Event{{Token: 9, Ready: true}}, next(t, p), "the exit; it is not reaped")
		}
		require.NoError(t, p.Remove(fd))
		require.NoError(t, cmd.Wait())
	})
}

func TestSetsNonblock(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		// Asked of a descriptor that blocks: does a read of it return once it was watched?
		r, w, err := sys.Pipe()
		require.NoError(t, err)
		defer sys.Close(r)
		require.NoError(t, p.Add(r, Read, 1))
		done := make(chan error, 1)
		go func() {
			_, err := sys.Read(r, make([]byte, 1))
			done <- err
		}()
		if !p.SetsNonblock() {
			// It waits for the end of the pipe, which closing w brings about.
			sys.Close(w)
			assert.NoError(t, <-done)
		} else {
			assert.Error(t, <-done, "EAGAIN")
			sys.Close(w)
		}
		require.NoError(t, p.Remove(r))
	})
}

func TestNewKeepsWhatIsThere(t *testing.T) {
	testproc.NoLeaks(t)
	p, err := New()
	require.NoError(t, err)
	defer p.Close()
	_, native := p.(*epoll)
	assert.Equal(t, !testproc.IsDisabled("epoll"), native)
	pipe := newPipe(t, Read)
	require.NoError(t, p.Add(pipe.r, Read, 1))
	pipe.write(t, "x")
	assert.True(t, slices.ContainsFunc(next(t, p), func(e Event) bool { return e.Token == 1 && e.Ready }))
}

// Closed with watches on, armed and not.
func TestCloseWhileWatching(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		for i := range 5 {
			pipe := newPipe(t, Read)
			require.NoError(t, p.Add(pipe.r, Read, i))
			if i%2 == 0 {
				pipe.write(t, "x")
			}
		}
		_, err := p.Wait(time.Now().Add(soon))
		require.NoError(t, err)
		// eachPoller closes it, and finds what is left.
	})
}
