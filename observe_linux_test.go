package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// A recorder is an observer that keeps what it receives.
type recorder struct {
	mu     sync.Mutex
	events []string
	pid    int
	res    safeexec.Result
	err    error
	ended  chan struct{} // closed at the end
}

func newRecorder() *recorder { return &recorder{ended: make(chan struct{})} }

func (o *recorder) add(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, fmt.Sprintf(format, args...))
}

func (o *recorder) told() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.events)
}

// awaitEnd waits for Ended, of which a second panics.
func (o *recorder) awaitEnd(t *testing.T) {
	t.Helper()
	select {
	case <-o.ended:
	case <-testproc.Deadline(t).Done():
		require.Fail(t, "Ended was not called")
	}
}

func (o *recorder) Observe(context.Context, *exec.Cmd) safeexec.Observation {
	o.add("observe")
	return safeexec.Observation{
		Started: func(pid int) { o.add("started"); o.pid = pid },
		Retried: func(err error) { o.add("retried %v", errors.Is(err, syscall.ETXTBSY)) },
		Ending:  func(cause safeexec.Cause) { o.add("ending %v", cause) },
		Ended: func(res safeexec.Result, err error) {
			o.add("ended %v", res.Cause)
			o.res, o.err = res, err
			close(o.ended)
		},
	}
}

// observerFunc is an observer that returns the same for each run.
type observerFunc func() safeexec.Observation

func (f observerFunc) Observe(context.Context, *exec.Cmd) safeexec.Observation { return f() }

func TestObserver(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		cmd  *exec.Cmd
		run  func(testing.TB, *exec.Cmd, ...safeexec.Option) (safeexec.Result, error)
		want []string
	}{
		{"exit", testproc.Command("exit", "3"), testrun.Run, []string{"observe", "started", "ended exited"}},
		{"timeout", testproc.Command("hang"), testrun.Expires, []string{"observe", "started", "ending timeout", "ended timeout"}},
		{"not found", exec.Command("/nowhere/program"), testrun.Run, []string{"observe", "ended start failed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			one, two := newRecorder(), newRecorder()
			res, err := test.run(t, test.cmd, safeexec.WithObserver(one), safeexec.WithObserver(nil), safeexec.WithObserver(two))
			for _, o := range []*recorder{one, two} {
				assert.Equal(t, test.want, o.told())
				assert.Equal(t, res.PID, o.pid)
				assert.Equal(t, res, o.res)
				assert.Equal(t, err, o.err)
			}
		})
	}
}

func TestObserverOfRefusedRun(t *testing.T) {
	t.Parallel()
	o := newRecorder()
	_, err := safeexec.Run(t.Context(), testproc.Command("exit"), safeexec.WithObserver(o))
	require.ErrorIs(t, err, safeexec.ErrNoTimeout)
	assert.Empty(t, o.told())
}

// The end is observed when it comes, with or without a Wait.
func TestObserverOfStart(t *testing.T) {
	t.Parallel()
	o := newRecorder()
	p, err := safeexec.Start(t.Context(), testproc.Command("exit", "3"),
		safeexec.WithTimeout(testrun.Bound), safeexec.WithObserver(o))
	require.NoError(t, err)
	<-o.ended
	<-p.Done()
	res, err := p.Wait()
	assert.Equal(t, o.res, res)
	assert.Equal(t, o.err, err)
	assert.Equal(t, 3, res.ExitCode)

	piped := newRecorder()
	cmd := testproc.Command("exit", "0")
	_, err = cmd.StdoutPipe()
	require.NoError(t, err)
	p, err = safeexec.Start(t.Context(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithObserver(piped))
	require.NoError(t, err)
	<-p.Done()
	assert.NotContains(t, piped.told(), "ended exited", "the caller may be reading")
	_, err = p.Wait()
	require.NoError(t, err)
	assert.Contains(t, piped.told(), "ended exited")

	failed := newRecorder()
	_, err = safeexec.Start(t.Context(), exec.Command("/nowhere/program"),
		safeexec.WithTimeout(testrun.Bound), safeexec.WithObserver(failed))
	require.ErrorIs(t, err, safeexec.ErrNotFound)
	assert.Equal(t, []string{"observe", "ended start failed"}, failed.told())
}

func TestObserverEnv(t *testing.T) {
	t.Parallel()
	with := func(env ...string) safeexec.Option {
		return safeexec.WithObserver(observerFunc(func() safeexec.Observation { return safeexec.Observation{Env: env} }))
	}
	cmd := exec.Command(testproc.HasProgram(t, "sh"), "-c", `echo "$A $B $C $PWD"`)
	cmd.Dir = t.TempDir()
	cmd.Env = []string{"A=callers", "B=callers"}
	before := slices.Clone(cmd.Env)
	res, err := testrun.Run(t, cmd, with("B=one"), with("C=two"))
	require.NoError(t, err)
	assert.Equal(t, "callers one two "+cmd.Dir, res.Stdout.String())
	assert.Equal(t, before, cmd.Env)

	inherits := exec.Command(testproc.HasProgram(t, "sh"), "-c", `echo "$PATH"`)
	res, err = testrun.Run(t, inherits, with("B=one"))
	require.NoError(t, err)
	assert.Equal(t, os.Getenv("PATH"), res.Stdout.String())
	assert.Nil(t, inherits.Env)

	for _, bad := range []string{"", "A", "=x", "A=\x00"} {
		var config *safeexec.ConfigError
		res, err := testrun.Run(t, exec.Command("true"), with(bad))
		require.ErrorAs(t, err, &config, "%q", bad)
		assert.Zero(t, res.PID)
	}
}

func TestObserverRetried(t *testing.T) {
	t.Parallel()
	o := newRecorder()
	res, err := testrun.Run(t, exec.Command(testproc.BusyProgram(t)), safeexec.WithObserver(o))
	require.ErrorIs(t, err, syscall.ETXTBSY)
	want := append([]string{"observe"}, slices.Repeat([]string{"retried true"}, res.StartRetries)...)
	assert.Equal(t, append(want, "ended start failed"), o.told())
}

// An observer that panics, ends its goroutine, or does not return changes nothing but what the Result says of it.
func TestObserverMisbehaves(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	for name, act := range map[string]func(){
		"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit, "block": func() { <-release },
	} {
		for where, o := range map[string]observerFunc{
			"Observe": func() safeexec.Observation { act(); return safeexec.Observation{} },
			"Started": func() safeexec.Observation { return safeexec.Observation{Started: func(int) { act() }} },
			"Ending": func() safeexec.Observation {
				return safeexec.Observation{Ending: func(safeexec.Cause) { act() }}
			},
			"Ended": func() safeexec.Observation {
				return safeexec.Observation{Ended: func(safeexec.Result, error) { act() }}
			},
		} {
			t.Run(name+" in "+where, func(t *testing.T) {
				after, drain := newRecorder(), testrun.Unbounded
				if name == "block" {
					drain = 50 * time.Millisecond
				}
				res, err := testrun.Expires(t, testproc.Command("hang"), safeexec.WithDrainTimeout(drain),
					safeexec.WithObserver(o), safeexec.WithObserver(after))
				require.ErrorIs(t, err, safeexec.ErrTimeout)
				assert.Empty(t, res.Survivors)
				after.awaitEnd(t)
				assert.Equal(t, []string{"observe", "started", "ending timeout", "ended timeout"}, after.told())
				if name == "panic" {
					assert.ErrorContains(t, res.ObserverErr, "on purpose")
				} else {
					assert.NoError(t, res.ObserverErr)
				}
				if blocked := slices.Contains(res.Abandoned, safeexec.AbandonedObserver); name == "block" {
					assert.True(t, blocked)
				}
			})
		}
	}
}

// gated is a recorder whose call of one kind waits.
func gated(where string, gate <-chan struct{}) (*recorder, safeexec.Option) {
	o := newRecorder()
	return o, safeexec.WithObserver(observerFunc(func() safeexec.Observation {
		if where == "Observe" {
			<-gate
		}
		told := o.Observe(context.Background(), nil)
		started := told.Started
		told.Started = func(pid int) {
			if where == "Started" {
				<-gate
			}
			started(pid)
		}
		told.Env = []string{"LATE=1"}
		return told
	}))
}

// Whoever was asked is told of the end, once, however late it answers, and however many others do not.
func TestObserverLate(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"Observe", "Started"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			gate := make(chan struct{})
			release := sync.OnceFunc(func() { close(gate) })
			defer release()
			// All the runs ask the same observers, as those of one program do.
			const runs = 4
			var late, prompt [runs]*recorder
			var group sync.WaitGroup
			for i := range runs {
				var slow safeexec.Option
				late[i], slow = gated(where, gate)
				prompt[i] = newRecorder()
				group.Go(func() {
					res, _ := testrun.Run(t, exec.Command(testproc.HasProgram(t, "sh"), "-c", `exit "0$LATE"`),
						safeexec.WithDrainTimeout(50*time.Millisecond), slow, safeexec.WithObserver(prompt[i]))
					assert.Contains(t, res.Abandoned, safeexec.AbandonedObserver)
					if where == "Observe" {
						assert.Zero(t, res.ExitCode, "its variables came too late")
					}
				})
			}
			group.Wait()
			for _, o := range prompt {
				o.awaitEnd(t)
				assert.Equal(t, []string{"observe", "started", "ended exited"}, o.told())
			}
			for _, o := range late {
				assert.NotContains(t, o.told(), "started")
			}
			release()
			for _, o := range late {
				o.awaitEnd(t)
				assert.Equal(t, []string{"observe", "started", "ended exited"}, o.told())
				assert.NotZero(t, o.res.PID)
			}
		})
	}
}

// A func that does not return may lose the observer retries, but never the end.
func TestObserverManyEvents(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	release := sync.OnceFunc(func() { close(gate) })
	defer release()
	o, slow := gated("Started", gate)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	p, err := safeexec.Start(ctx, testproc.Command("hang"), safeexec.WithTimeout(testrun.Bound),
		safeexec.WithDrainTimeout(50*time.Millisecond), slow)
	require.NoError(t, err)
	safeexec.TellRetries(p, 1000)
	p.Kill()
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrStopped)
	assert.Contains(t, res.Abandoned, safeexec.AbandonedObserver)
	release()
	o.awaitEnd(t)
	told := o.told()
	assert.Equal(t, []string{"observe", "started"}, told[:2])
	assert.Equal(t, []string{"ending stopped", "ended stopped"}, told[len(told)-2:])
}

// A brokenContext panics from some time on.
type brokenContext struct {
	context.Context
	broken *atomic.Bool
}

func (c brokenContext) Err() error {
	if c.broken.Load() {
		panic("on purpose")
	}
	return c.Context.Err()
}

// panics has a run panic through a context that breaks once the command has started, and an observer of its own see it.
func panics(t *testing.T, ctx context.Context, o **recorder, opts ...safeexec.Option) {
	t.Helper()
	for timeout := testrun.Soon; ; timeout *= 2 { // until the machine starts it in that time
		*o = newRecorder()
		panicked := func() (panicked bool) {
			defer func() { panicked = recover() != nil }()
			_, _ = safeexec.Run(ctx, testproc.Command("hang"),
				append(opts, safeexec.WithTimeout(timeout), safeexec.WithObserver(*o))...)
			return false
		}()
		if panicked {
			return
		}
		require.NotContains(t, (*o).told(), "started")
		require.Less(t, timeout, testrun.Bound)
	}
}

// Where the caller's own code panics through Run, the observers learn of the end.
func TestObserverOfPanic(t *testing.T) {
	t.Parallel()
	o := newRecorder()
	ctx := brokenContext{t.Context(), new(atomic.Bool)}
	breaker := observerFunc(func() safeexec.Observation {
		return safeexec.Observation{Started: func(int) { ctx.broken.Store(true) }}
	})
	panics(t, ctx, &o, safeexec.WithReportBound(testrun.Bound), safeexec.WithObserver(breaker))
	select {
	case <-o.ended:
		assert.Error(t, o.err)
	default:
		assert.Fail(t, "Ended was not called")
	}
}

// A brokenDeadline panics when it is asked for its deadline from some time on.
type brokenDeadline struct{ brokenContext }

func (c brokenDeadline) Err() error { return c.Context.Err() }

func (c brokenDeadline) Deadline() (time.Time, bool) {
	if c.broken.Load() {
		panic("on purpose")
	}
	return c.Context.Deadline()
}

// So they do where it panics when the command has ended, and a Wait after that tells of no success.
func TestObserverOfPanicAtTheEnd(t *testing.T) {
	t.Parallel()
	o := newRecorder()
	ctx := brokenDeadline{brokenContext{t.Context(), new(atomic.Bool)}}
	p, err := safeexec.Start(ctx, exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	ctx.broken.Store(true)
	assert.Panics(t, func() { _, _ = p.Wait() })
	_, err = p.Wait()
	require.Error(t, err)
	ctx.broken.Store(false)
	breaker := observerFunc(func() safeexec.Observation {
		return safeexec.Observation{Started: func(int) { ctx.broken.Store(true) }}
	})
	panics(t, ctx, &o, safeexec.WithObserver(breaker))
	o.awaitEnd(t)
	assert.Error(t, o.err)
}

// BenchmarkObserver shows what an observer costs beside none.
func BenchmarkObserver(b *testing.B) {
	none := safeexec.Options()
	for name, opt := range map[string]safeexec.Option{
		"none": none,
		"one":  safeexec.WithObserver(observerFunc(func() safeexec.Observation { return safeexec.Observation{} })),
	} {
		b.Run("observer="+name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, err := safeexec.Run(b.Context(), exec.Command("/bin/true"), safeexec.WithTimeout(testrun.Bound), opt)
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
