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
		opts []safeexec.Option
		want []string
	}{
		{"exit", testproc.Command("exit", "3"), nil, []string{"observe", "started", "ended exited"}},
		{
			"timeout", testproc.Command("hang"), []safeexec.Option{safeexec.WithTimeout(testrun.Soon)},
			[]string{"observe", "started", "ending timeout", "ended timeout"},
		},
		{"not found", exec.Command("/nowhere/program"), nil, []string{"observe", "ended start failed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			one, two := newRecorder(), newRecorder()
			res, err := testrun.Run(t, test.cmd, append(test.opts,
				safeexec.WithObserver(one), safeexec.WithObserver(nil), safeexec.WithObserver(two))...)
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
				after := newRecorder()
				res, err := testrun.Run(t, testproc.Command("hang"), safeexec.WithTimeout(testrun.Soon), safeexec.WithDrainTimeout(50*time.Millisecond),
					safeexec.WithObserver(o), safeexec.WithObserver(after))
				require.ErrorIs(t, err, safeexec.ErrTimeout)
				assert.Empty(t, res.Survivors)
				if name == "panic" {
					assert.ErrorContains(t, res.ObserverErr, "on purpose")
					assert.Equal(t, []string{"observe", "started", "ending timeout", "ended timeout"}, after.told())
				} else {
					assert.NoError(t, res.ObserverErr)
				}
				blocked := slices.Contains(res.Abandoned, safeexec.AbandonedObserver)
				assert.Equal(t, name == "block", blocked)
			})
		}
	}
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

// Where the caller's own code panics through Run, the observers learn of the end.
func TestObserverOfPanic(t *testing.T) {
	t.Parallel()
	o := newRecorder()
	ctx := brokenContext{t.Context(), new(atomic.Bool)}
	breaker := observerFunc(func() safeexec.Observation {
		return safeexec.Observation{Started: func(int) { ctx.broken.Store(true) }}
	})
	assert.Panics(t, func() {
		_, _ = safeexec.Run(ctx, testproc.Command("hang"), safeexec.WithTimeout(testrun.Soon), safeexec.WithReportBound(testrun.Bound),
			safeexec.WithObserver(o), safeexec.WithObserver(breaker))
	})
	select {
	case <-o.ended:
		assert.Error(t, o.err)
	default:
		assert.Fail(t, "Ended was not called")
	}
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
