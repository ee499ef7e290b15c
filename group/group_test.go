package group

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	warm := func() {
		_, _ = safeexec.Run(context.Background(), testproc.Command("exit", "0"), safeexec.WithTimeout(time.Minute))
	}
	testproc.Main(m, testproc.Uses("exit"), testproc.Warm(warm), testproc.Idle(poll.CloseIdle))
}

// A fake is a run without a process. It ends when it is told to, or with its context.
type fake struct {
	ctx  context.Context
	cmd  *exec.Cmd
	over chan error
}

func (f *fake) PID() int                         { return 7 }
func (f *fake) Report() (safeexec.Report, error) { return safeexec.Report{PID: 7}, nil }
func (f *fake) Wait() (safeexec.Result, error) {
	select {
	case err := <-f.over:
		return safeexec.Result{PID: 7}, err
	case <-f.ctx.Done():
		return safeexec.Result{PID: 7}, context.Cause(f.ctx)
	}
}

// A stage makes groups whose runs are fakes, and tells what was started.
type stage struct {
	starts chan *fake // has room for all
}

func newStage() *stage { return &stage{make(chan *fake, 20000)} }

func (s *stage) group(t testing.TB, ctx context.Context, opts ...Option) *Group {
	t.Helper()
	g, err := New(ctx, opts...)
	require.NoError(t, err)
	g.start = func(ctx context.Context, cmd *exec.Cmd, _ ...safeexec.Option) (process, error) {
		f := &fake{ctx, cmd, make(chan error, 1)}
		s.starts <- f
		return f, nil
	}
	return g
}

func (s *stage) started() (names []string, fakes []*fake) {
	synctest.Wait()
	for len(s.starts) > 0 {
		f := <-s.starts
		names, fakes = append(names, f.cmd.Path), append(fakes, f)
	}
	return names, fakes
}

func command(name string) *exec.Cmd { return &exec.Cmd{Path: name} }

func assertNotStarted(t *testing.T, j *Job, reason error) {
	t.Helper()
	res, err := j.Wait()
	require.ErrorIs(t, err, ErrNotStarted)
	require.ErrorIs(t, err, reason)
	assert.Zero(t, res.PID)
	assert.Equal(t, -1, res.ExitCode)
	assert.NotEqual(t, safeexec.CauseNone, res.Cause)
	_, was := j.Started()
	assert.False(t, was)
}

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), Limit(2))
		var jobs []*Job
		for i := range 5 {
			jobs = append(jobs, g.Go(command(fmt.Sprint(i))))
		}
		names, runs := s.started()
		assert.Len(t, names, 2)
		assert.Equal(t, jobs[:2], g.Running())
		assert.Equal(t, jobs[2:], g.Waiting())
		assert.Equal(t, 7, jobs[0].PID())
		_, err := jobs[0].Report()
		require.NoError(t, err)
		_, err = jobs[4].Report()
		require.ErrorIs(t, err, ErrNotStarted)

		failure := errors.New("failure")
		for _, f := range runs {
			f.over <- failure
		}
		names, runs = s.started()
		assert.ElementsMatch(t, []string{"2", "3"}, names, "it goes on after failures")
		for _, f := range runs {
			f.over <- nil
		}
		_, runs = s.started()
		runs[0].over <- nil
		var ended []*Job
		for j := range Results(append(jobs, nil, jobs[0])...) {
			ended = append(ended, j)
		}
		assert.ElementsMatch(t, jobs, ended)
		assert.Equal(t, jobs[4], ended[4])
		assert.Empty(t, g.lanes)
		_, err = jobs[0].Report()
		require.ErrorIs(t, err, os.ErrProcessDone)
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestStartInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), Limit(9), StartInterval(2*time.Second))
		begun := time.Now()
		var jobs []*Job
		for range 4 {
			jobs = append(jobs, g.Go(command("x")))
		}
		time.Sleep(time.Minute)
		for i, j := range jobs {
			at, _ := j.Started()
			assert.Equal(t, time.Duration(i)*2*time.Second, at.Sub(begun))
		}
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestQueueTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), Limit(1), QueueTimeout(time.Second), StopOnError())
		runs := g.Go(command("x"))
		early := g.GoKey("k", command("x"))
		time.Sleep(time.Second / 2)
		late := g.Go(command("x"))
		time.Sleep(time.Second / 2)
		synctest.Wait()
		assertNotStarted(t, early, ErrQueueTimeout)
		require.ErrorIs(t, early.err, os.ErrDeadlineExceeded)
		assert.Equal(t, []*Job{late}, g.Waiting())
		time.Sleep(time.Second / 2)
		assertNotStarted(t, late, ErrQueueTimeout)
		assert.Equal(t, []*Job{runs}, g.Running(), "to have waited too long is no failure")
		assert.Empty(t, g.lanes)
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestQueueLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), Limit(1), QueueLimit(1), SameKey(KeyQueue))
		g.GoKey("k", command("x"))
		g.GoKey("k", command("x"))
		assertNotStarted(t, g.Go(command("x")), ErrQueueFull)
		require.NoError(t, g.Shutdown(t.Context()))

		g = s.group(t, t.Context(), Limit(1), QueueLimit(0))
		g.Go(command("x"))
		assertNotStarted(t, g.Go(command("x")), ErrQueueFull)
		assert.Len(t, g.Running(), 1)
		require.NoError(t, g.Shutdown(t.Context()))
	})
}

func TestKeys(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage()
			g := s.group(t, t.Context(), Limit(1))
			first, waits := g.GoKey("a", command("x")), g.GoKey("b", command("x"))
			assertNotStarted(t, g.GoKey("a", command("x")), ErrBusy)
			assertNotStarted(t, g.GoKey("b", command("x")), ErrBusy)
			_, runs := s.started()
			runs[0].over <- nil
			<-first.Done()
			again := g.GoKey("a", command("x")) // free as soon as the end is known
			assert.False(t, again.over())
			require.NoError(t, g.Shutdown(t.Context()))
			<-waits.Done()
		})
	})
	t.Run("joined", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage()
			g := s.group(t, t.Context(), Limit(1), SameKey(KeyJoin))
			runs, waits := g.GoKey("a", command("x")), g.GoKey("b", command("x"))
			assert.Same(t, runs, g.GoKey("a", command("x")))
			assert.Same(t, waits, g.GoKey("b", command("x")))
			first, second := g.Go(command("x")), g.Go(command("x"))
			assert.NotSame(t, first, second, "the empty key is none")
			require.NoError(t, g.Shutdown(t.Context()))
			assertNotStarted(t, waits, ErrShutdown)
		})
	})
	t.Run("take turns", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := newStage()
			g := s.group(t, t.Context(), Limit(2), SameKey(KeyQueue))
			for _, key := range []string{"a", "a", "a", "a", "", "", "", "b", "c"} {
				g.GoKey(key, command("key "+key))
			}
			var order []string
			names, runs := s.started()
			for len(runs) > 0 {
				order = append(order, names...)
				running := map[string]int{}
				for _, j := range g.Running() {
					running[j.Key()]++
				}
				assert.LessOrEqual(t, running["a"], 1)
				for _, f := range runs {
					f.over <- nil
					more, next := s.started()
					order = append(order, more...)
					runs = append(runs[1:], next...)
				}
				names = nil
			}
			assert.Len(t, order, 9)
			assert.Less(t, slices.Index(order, "key c"), 6, "%q", order)
			assert.Equal(t, "key a", order[8])
			require.NoError(t, g.Shutdown(t.Context()))
		})
	})
}

func TestStopOnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), Limit(2), StopOnError())
		_, other, waits := g.Go(command("x")), g.Go(command("y")), g.Go(command("z"))
		served := make(chan error, 1)
		go func() { served <- g.Serve(context.Background()) }()
		names, runs := s.started()
		failure := errors.New("failure")
		runs[slices.Index(names, "x")].over <- failure
		assertNotStarted(t, waits, ErrJobFailed)
		_, err := other.Wait()
		require.ErrorIs(t, err, ErrJobFailed)
		require.ErrorIs(t, <-served, failure)
		assertNotStarted(t, g.Go(command("x")), ErrJobFailed)
	})
}

// Nothing is started after the cancellation, whatever it meets.
func TestCanceledWhileThousandsWait(t *testing.T) {
	var starts, after atomic.Int64
	var canceled atomic.Bool
	ctx, cancel := context.WithCancelCause(t.Context())
	g, err := New(ctx, Limit(1))
	require.NoError(t, err)
	g.start = func(ctx context.Context, cmd *exec.Cmd, _ ...safeexec.Option) (process, error) {
		starts.Add(1)
		if canceled.Load() {
			after.Add(1)
		}
		return &fake{ctx, cmd, nil}, nil
	}
	var jobs []*Job
	for range 4001 {
		jobs = append(jobs, g.Go(command("x")))
	}
	testproc.Wait(t, func() bool { return starts.Load() == 1 })
	why := errors.New("why")
	begun := time.Now()
	cancel(why)
	canceled.Store(true)
	ended := 0
	for range Results(jobs...) {
		ended++
	}
	t.Logf("4000 waiting jobs ended %v after the cancellation", time.Since(begun))
	assert.Equal(t, 4001, ended)
	assert.EqualValues(t, 1, starts.Load())
	assert.Zero(t, after.Load())
	assertNotStarted(t, jobs[4000], why)
	require.ErrorIs(t, jobs[4000].err, safeexec.ErrCanceled)
	assertNotStarted(t, g.Go(command("x")), context.Canceled)
}

// settled returns the figures of the heap once collections find nothing more to free: goroutines of other
// tests that are about to end hold what is garbage a moment later.
func settled(t *testing.T) (m runtime.MemStats) {
	t.Helper()
	same := 0
	testproc.Wait(t, func() bool {
		last := m.HeapAlloc
		runtime.GC()
		runtime.ReadMemStats(&m)
		if same++; last > m.HeapAlloc+16<<10 || m.HeapAlloc > last+16<<10 {
			same = 0
		}
		return same == 3
	})
	return m
}

func TestMemoryOfWaitingJobs(t *testing.T) {
	for _, keyed := range []bool{false, true} {
		t.Run(fmt.Sprintf("keyed=%v", keyed), func(t *testing.T) {
			const n = 10000
			s := newStage()
			g := s.group(t, t.Context(), Limit(1), QueueTimeout(time.Hour))
			g.Go(command("x"))
			opt := safeexec.WithTimeout(time.Hour)
			keys, cmds := make([]string, n), make([]*exec.Cmd, n)
			for i := range keys {
				cmds[i] = command("x")
				if keyed {
					keys[i] = fmt.Sprint("key ", i)
				}
			}
			goroutines := runtime.NumGoroutine()
			before := settled(t)
			for i, key := range keys {
				g.GoKey(key, cmds[i], opt)
			}
			after := settled(t)
			each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / n
			t.Logf("%d bytes in %.1f allocations for a waiting job", each, float64(after.Mallocs-before.Mallocs)/n)
			assert.Greater(t, each, int64(100))
			assert.LessOrEqual(t, each, int64(1024))
			// No goroutine for a waiting job; those of tests before may be on their way out.
			testproc.Wait(t, func() bool { return runtime.NumGoroutine() <= goroutines+1 })
			runtime.KeepAlive(cmds)
			runtime.KeepAlive(keys)
			require.NoError(t, g.Shutdown(t.Context()))
		})
	}
}

func TestShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, err := New(t.Context(), Limit(2), Options(safeexec.WithGracePeriod(time.Minute)))
		require.NoError(t, err)
		stuck := make(chan error)
		g.start = func(_ context.Context, cmd *exec.Cmd, _ ...safeexec.Option) (process, error) {
			return &fake{context.Background(), cmd, stuck}, nil // deaf to its context
		}
		j, waits := g.Go(command("x"), safeexec.WithGracePeriod(time.Hour)), g.Go(command("x"))
		third := g.Go(command("x"))
		synctest.Wait()
		bound := safeexec.StopBound(safeexec.WithGracePeriod(time.Hour))
		assert.Equal(t, bound, g.StopBound())

		begun := time.Now()
		var left *ShutdownError
		require.ErrorAs(t, g.Shutdown(t.Context()), &left)
		assert.Equal(t, bound, time.Since(begun))
		require.ErrorIs(t, left, ErrOverdue)
		assert.Equal(t, []*Job{j, waits}, left.Jobs)
		assertNotStarted(t, third, ErrShutdown)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, g.Shutdown(ctx), context.DeadlineExceeded)
		close(stuck)
		require.NoError(t, g.Shutdown(t.Context()))
		require.ErrorIs(t, g.Serve(t.Context()), ErrShutdown)
	})
}

func TestMisuse(t *testing.T) {
	var config *safeexec.ConfigError
	for _, o := range []Option{
		Limit(0), Limit(-1), QueueLimit(-1), StartInterval(-1), QueueTimeout(0), QueueTimeout(-1),
		SameKey(-1), SameKey(3),
	} {
		_, err := New(t.Context(), nil, o)
		require.ErrorAs(t, err, &config)
	}
	var none context.Context
	_, err := New(none)
	require.ErrorAs(t, err, &config)

	for _, g := range []*Group{nil, {}} {
		assertNotStarted(t, g.Go(command("x")), ErrNotMade)
		require.NoError(t, g.Shutdown(t.Context()))
		require.ErrorIs(t, g.Serve(t.Context()), ErrNotMade)
	}
	g, err := New(t.Context())
	require.NoError(t, err)
	j := g.Go(nil)
	_, err = j.Wait()
	require.ErrorAs(t, err, &config)
	require.ErrorAs(t, g.Shutdown(none), &config)
	require.ErrorAs(t, g.Serve(none), &config)
	_, err = g.Go(exec.Command("true")).Wait()
	require.ErrorIs(t, err, safeexec.ErrNoTimeout)
	require.NoError(t, g.Shutdown(t.Context()))
}

// Results may be left, and taken again.
func TestResultsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), Limit(3))
		jobs := []*Job{g.Go(command("0")), g.Go(command("1")), g.Go(command("2"))}
		names, runs := s.started()
		for _, name := range []string{"2", "0", "1"} {
			runs[slices.Index(names, name)].over <- nil
			synctest.Wait()
			for range Results(jobs...) {
				break
			}
		}
		want := []*Job{jobs[2], jobs[0], jobs[1]}
		assert.Equal(t, want, slices.Collect(Results(jobs...)))
		require.NoError(t, g.Shutdown(t.Context()))
	})
}
