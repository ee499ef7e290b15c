package poll

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// never is a deadline that no test reaches and that none decides by.
var never time.Time

// awake runs a Wait that only Wake can end, and fails the test if it does not.
func awake(t *testing.T, p Poller) {
	t.Helper()
	ctx := testproc.Deadline(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		events, err := p.Wait(never)
		assert.NoError(t, err)
		assert.Empty(t, events)
	}()
	within(ctx, t, "Wait was not woken", done)
}

func TestWakeBeforeWait(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		for range 3 {
			p.Wake()
			p.Wake()
			awake(t, p)
		}
	})
}

func TestWakeDuringWait(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		for range 50 {
			started := make(chan struct{})
			var woken sync.WaitGroup
			woken.Go(func() {
				<-started
				runtime.Gosched()
				p.Wake()
			})
			close(started)
			awake(t, p)
			woken.Wait()
		}
	})
}

// A wake-up is remembered once. It may cost one empty round more, and then Wait waits again.
func TestWakeIsUsedUp(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		p.Wake()
		awake(t, p)
		end := time.Now().Add(soon)
		for rounds := 0; ; rounds++ {
			events, err := p.Wait(end)
			require.NoError(t, err)
			require.Empty(t, events)
			if !time.Now().Before(end) {
				return
			}
			require.Less(t, rounds, 2, "Wait does not wait any more")
		}
	})
}

func TestWakeReportsWhatIsReady(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		pipe.write(t, "x")
		p.Wake()
		assert.Equal(t, []Event{{Token: 1, Ready: true}}, next(t, p))
	})
}

func TestWakeAfterClose(t *testing.T) {
	for _, open := range []func() (Poller, error){New, newPortable} {
		p, err := open()
		require.NoError(t, err)
		p.Close()
		p.Wake()
		p.Wake()
	}
}

func TestWakeWhileClosing(t *testing.T) {
	for _, open := range []func() (Poller, error){New, newPortable} {
		for range 200 {
			p, err := open()
			require.NoError(t, err)
			var wakers sync.WaitGroup
			for range 3 {
				wakers.Go(p.Wake)
			}
			p.Close()
			wakers.Wait()
		}
	}
}

// One goroutine raises a number and wakes; the other waits for nothing else. If one wake-up in all
// these rounds were lost, both would wait for ever.
func TestNoWakeUpIsLost(t *testing.T) {
	rounds := int64(testproc.Rounds(2000))
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		ctx := testproc.Deadline(t)
		var asked, answered atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := int64(1); n <= rounds; n++ {
				asked.Store(n)
				p.Wake()
				for answered.Load() < n && ctx.Err() == nil {
					runtime.Gosched()
				}
			}
		}()
		served := make(chan struct{})
		go func() {
			defer close(served)
			for n := int64(0); n < rounds; {
				if n = asked.Load(); answered.Swap(n) == n {
					p.Wait(never)
				}
			}
		}()
		within(ctx, t, "a wake-up was lost", served)
		within(ctx, t, "an answer was lost", done)
	})
}

// The same among deadlines that pass at that very moment: a Wait that ends by its deadline must
// not swallow the wake-up of the next.
func TestNoWakeUpIsLostToADeadline(t *testing.T) {
	rounds := int64(testproc.Rounds(500))
	eachPoller(t, func(t *testing.T, p Poller) {
		ctx := testproc.Deadline(t)
		var asked, answered atomic.Int64
		go func() {
			for n := int64(1); n <= rounds; n++ {
				asked.Store(n)
				p.Wake()
				for answered.Load() < n && ctx.Err() == nil {
					runtime.Gosched()
				}
			}
		}()
		served := make(chan struct{})
		go func() {
			defer close(served)
			for n := int64(0); n < rounds; {
				if n = asked.Load(); answered.Swap(n) != n {
					continue
				}
				p.Wait(time.Now().Add(time.Duration(n%20) * time.Microsecond))
				if n = asked.Load(); answered.Swap(n) == n {
					p.Wait(never)
				}
			}
		}()
		within(ctx, t, "a wake-up was lost to a deadline", served)
	})
}

func TestDeadlines(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		nothing(t, p)
		for _, past := range []time.Time{time.Now(), time.Now().Add(-time.Hour), time.Unix(1, 0)} {
			events, err := p.Wait(past)
			require.NoError(t, err)
			assert.Empty(t, events)
		}
		nothing(t, p) // and a deadline that has passed leaves no trace
		p.Wake()
		awake(t, p)
	})
}

// The zero deadline is none, also after Waits that had one.
func TestZeroDeadline(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		nothing(t, p)
		_, err := p.Wait(time.Now().Add(-time.Second))
		require.NoError(t, err)
		done := make(chan struct{})
		go func() {
			defer close(done)
			events, err := p.Wait(time.Time{})
			assert.NoError(t, err)
			assert.Equal(t, []Event{{Token: 1, Ready: true}}, events)
		}()
		select {
		case <-done:
			t.Error("returned without reason")
		case <-time.After(soon): // to let it get there; it decides nothing
		}
		pipe.write(t, "x")
		within(testproc.Deadline(t), t, "Wait missed an event", done)
	})
}

// A run that comes late must still see what made it: with a deadline in the past Wait reports what is
// ready.
func TestDeadlineInThePastReportsWhatIsReady(t *testing.T) {
	eachPoller(t, func(t *testing.T, p Poller) {
		pipe := newPipe(t, Read)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		pipe.write(t, "x")
		for range 20 {
			events, err := p.Wait(time.Now().Add(-time.Second))
			require.NoError(t, err)
			require.Equal(t, []Event{{Token: 1, Ready: true}}, events)
		}
	})
}

// os/exec parks a thread for each running child. A Poller that waits must cost none.
func TestWaitingCostsNoThread(t *testing.T) {
	skipDisabled(t, "epoll")
	testproc.NoLeaks(t)
	const n = 500
	var waiters, entered sync.WaitGroup
	pollers := make([]Poller, 0, n)
	pipe := newPipe(t, Read) // one for all: descriptors may be few
	for range n {
		p, err := newNative()
		require.NoError(t, err)
		require.NoError(t, p.Add(pipe.r, Read, 1))
		pollers = append(pollers, p)
		entered.Add(1)
		waiters.Go(func() {
			entered.Done()
			p.Wait(never)
		})
	}
	entered.Wait()
	for range 1000 { // let them get there
		runtime.Gosched()
	}
	tasks, err := os.ReadDir("/proc/self/task")
	require.NoError(t, err)
	assert.Less(t, len(tasks), n/2, "far from one each; a busy machine has the runtime make some")
	for _, p := range pollers {
		p.Wake()
	}
	waiters.Wait()
	for _, p := range pollers {
		p.Close()
	}
}

func TestOnWall(t *testing.T) {
	assert.False(t, onWall(time.Now()))
	assert.False(t, onWall(time.Time{}))
	assert.True(t, onWall(time.Now().Round(0)))
	assert.True(t, onWall(time.Unix(1, 0)))
}

// A wait ends at its deadline, a moment late perhaps, and never before it.
func TestWaitIsNotEarly(t *testing.T) {
	skipDisabled(t, "epoll")
	testproc.NoLeaks(t)
	p, err := openEpoll()
	require.NoError(t, err)
	defer p.Close()
	for _, wait := range []time.Duration{200 * time.Microsecond, 3 * time.Millisecond} {
		for range 20 {
			end := time.Now().Add(wait)
			events, err := p.Wait(end)
			require.NoError(t, err)
			require.Empty(t, events)
			require.False(t, time.Now().Before(end))
		}
	}
}
