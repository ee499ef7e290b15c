//go:build linux

package safeexectest

import (
	"context"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// What an outcome adds is seen by all who ask, StopAll among them. It is not parallel: StopAll ends every run.
func TestFakeStopAll(t *testing.T) {
	stuck := safeexec.ProcessInfo{PID: nobody + 1, StartTicks: 7, Name: "stuck"}
	outcome := Survived(stuck)
	outcome.Hangs = true
	p, err := safeexec.Start(fakeOne(t, outcome), exec.Command("tool"), bounded)
	require.NoError(t, err)
	err = safeexec.StopAll(t.Context())
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	assert.Contains(t, err.Error(), "stuck")
	res, err := p.Wait()
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	assert.Equal(t, []safeexec.ProcessInfo{stuck}, res.Survivors)
	require.NoError(t, safeexec.StopAll(t.Context()))
}

// What an outcome adds is in the Result as it was set, once.
func TestFakeResult(t *testing.T) {
	t.Parallel()
	report := &safeexec.Report{Verdict: "waits for a lock"}
	root := safeexec.ProcessInfo{PID: nobody, StartTicks: 1, BootID: "that boot", Name: "tool"}
	want := safeexec.Result{
		Killed: []safeexec.ProcessInfo{root}, Survivors: []safeexec.ProcessInfo{root}, Left: []safeexec.ProcessInfo{root},
		Holders: []safeexec.Holder{{ProcessInfo: root, FDs: []int{1}}}, HoldersPartial: true, Hidden: 2,
		Abandoned: []safeexec.Abandoned{safeexec.AbandonedStdin}, Tracks: safeexec.Tracks(1), LeftCgroup: "/cgroup",
		Containment: safeexec.ContainmentCgroup, GuardRestarts: 3, StartRetries: 4, Report: report,
		Times: safeexec.Times{Total: time.Hour, Stop: time.Minute},
	}
	calls := 0
	res, err := safeexec.Run(fakeOne(t, Outcome{Result: func(r *safeexec.Result) {
		calls++
		r.Killed, r.Survivors, r.Left, r.Holders = want.Killed, want.Survivors, want.Left, want.Holders
		r.HoldersPartial, r.Hidden, r.Tracks, r.LeftCgroup = true, want.Hidden, want.Tracks, want.LeftCgroup
		r.Abandoned = append(r.Abandoned, want.Abandoned...)
		r.Containment, r.GuardRestarts, r.StartRetries = want.Containment, want.GuardRestarts, want.StartRetries
		r.Report, r.Times = want.Report, want.Times
	}}), exec.Command("tool"), bounded)
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	require.ErrorIs(t, err, safeexec.ErrPipeHeld)
	require.ErrorIs(t, err, safeexec.ErrReaderStuck)
	var e *safeexec.Error
	require.ErrorAs(t, err, &e)
	assert.Same(t, report, e.Report)
	assert.Equal(t, 1, calls)
	want.Program, want.PID, want.Cause, want.State = res.Program, res.PID, safeexec.CauseExited, res.State
	assert.Equal(t, want, res)
}

// What the run sets after the outcome has spoken is refused, by name.
func TestFakeResultRefused(t *testing.T) {
	t.Parallel()
	other, err := safeexec.Run(fakeOne(t, Outcome{Stdout: "text"}), exec.Command("tool"), bounded)
	require.NoError(t, err)
	for field, set := range map[string]func(*safeexec.Result){
		"Cause":       func(r *safeexec.Result) { r.Cause = safeexec.CauseTimeout },
		"ExitCode":    func(r *safeexec.Result) { r.ExitCode = 3 },
		"Signal":      func(r *safeexec.Result) { r.Signal = syscall.SIGTERM },
		"SignaledBy":  func(r *safeexec.Result) { r.SignaledBy = safeexec.SignalerSafeexec },
		"CoreDumped":  func(r *safeexec.Result) { r.CoreDumped = true },
		"State":       func(r *safeexec.Result) { r.State = other.State },
		"Stdout":      func(r *safeexec.Result) { r.Stdout = other.Stdout },
		"Stderr":      func(r *safeexec.Result) { r.Stderr.Total = 7 },
		"Command":     func(r *safeexec.Result) { r.Command = []string{"tool"} },
		"ObserverErr": func(r *safeexec.Result) { r.ObserverErr = context.Canceled },
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			failures := &recorder{TB: t}
			fake := new(Fake)
			fake.Expect("tool").Return(Outcome{Result: set})
			_, err := safeexec.Run(WithFake(failures, t.Context(), fake), exec.Command("tool"), bounded)
			require.NoError(t, err)
			require.Len(t, failures.errors, 1)
			assert.Contains(t, failures.errors[0], "Outcome.Result sets "+field+", which the run sets: ")
		})
	}
	for _, cause := range []safeexec.Cause{
		safeexec.CauseExited, safeexec.CauseStartFailed, safeexec.CauseOutputLimit, safeexec.CauseWriterFailed, safeexec.CauseLimits, -1,
	} {
		failures := &recorder{TB: t}
		fake := new(Fake)
		fake.Expect("tool").Return(Outcome{Cause: cause})
		_, err := safeexec.Run(WithFake(failures, t.Context(), fake), exec.Command("tool"), bounded)
		require.ErrorContains(t, err, "Outcome.Cause")
		assert.Len(t, failures.errors, 1)
	}
}

// An endings is an observer that waits for the end of one run.
type endings struct {
	err   error
	ended chan struct{}
}

func (o *endings) Observe(context.Context, *exec.Cmd) safeexec.Observation {
	return safeexec.Observation{Ended: func(_ safeexec.Result, err error) {
		o.err = err
		close(o.ended)
	}}
}

// A function of the test's that ends the start leaves nothing behind, and the observer is told.
func TestFakeThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	for name, act := range map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit} {
		observer := &endings{ended: make(chan struct{})}
		fake := new(Fake)
		fake.ExpectFunc("a program", func([]string) bool { act(); return true })
		ctx := WithFake(&recorder{TB: t}, t.Context(), fake)
		over := make(chan struct{})
		go func() {
			defer close(over)
			defer func() { _ = recover() }()
			_, _ = safeexec.Run(ctx, exec.Command("tool"), bounded, safeexec.WithObserver(observer))
		}()
		<-over
		select {
		case <-observer.ended:
			require.Error(t, observer.err, name)
		case <-time.After(time.Minute):
			require.Fail(t, "Ended was not called", name)
		}
		assert.Len(t, fake.Calls(), 1, "the fake can be asked")
	}
}

// One that ends the goroutine at the end of the run is called once, and StopAll does not wait for that run.
func TestFakesResultThatDoesNotReturn(t *testing.T) {
	calls := 0
	fake := new(Fake)
	fake.Expect("tool").Return(Outcome{Result: func(*safeexec.Result) { calls++; runtime.Goexit() }})
	ctx := WithFake(t, t.Context(), fake)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = safeexec.Run(ctx, exec.Command("tool"), bounded)
	}()
	<-over
	assert.Equal(t, 1, calls)
	require.NoError(t, safeexec.StopAll(testproc.Deadline(t)))
}
