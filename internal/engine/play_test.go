//go:build unix

package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
)

var dies = map[syscall.Signal]time.Duration{syscall.SIGKILL: 0}

// Each life ends at the second at which it must, by these signals and no others.
func TestLives(t *testing.T) {
	const second = time.Second
	diagnostic := func(c *Config) { c.Diagnostic, c.DiagnosticSet = Diagnostic{syscall.SIGQUIT, 3 * second}, true }
	for _, tt := range []struct {
		name                  string
		set                   func(c *Config)
		obeys                 map[syscall.Signal]time.Duration // nil: dies
		deaf                  bool
		meanwhile             func(r *Run, p *role, cancel func())
		cause                 Cause
		heard                 []string
		run, diagnostic, stop time.Duration
		signal                syscall.Signal
		by                    Signaler
	}{
		{
			name: "exit",
			meanwhile: func(_ *Run, p *role, _ func()) {
				at(3*second, func() { p.end(seam.End{Status: seam.Exited(3)}) })
			},
			cause: CauseExited, run: 3 * second,
		},
		{
			name: "deadline", cause: CauseTimeout, run: 10 * second, stop: 5 * second,
			heard:  []string{"terminated at 10s", "killed at 15s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "deadline, and it ends within the grace period", cause: CauseTimeout, run: 10 * second, stop: 2 * second,
			obeys: map[syscall.Signal]time.Duration{syscall.SIGTERM: 2 * second}, heard: []string{"terminated at 10s"},
			signal: syscall.SIGTERM, by: SignalerSafeexec,
		},
		{
			name: "what does nothing is not waited for", deaf: true, cause: CauseTimeout, run: 10 * second,
			heard:  []string{"terminated at 10s", "killed at 10s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "no grace period", cause: CauseTimeout, run: 10 * second,
			set:    func(c *Config) { c.Grace = 0 },
			heard:  []string{"terminated at 10s", "killed at 10s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "another signal", cause: CauseTimeout, run: 10 * second, stop: 5 * second,
			set:    func(c *Config) { c.TermSignal = syscall.SIGHUP },
			heard:  []string{"hangup at 10s", "killed at 15s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name:      "canceled",
			meanwhile: func(_ *Run, _ *role, cancel func()) { at(4*second, cancel) },
			cause:     CauseCanceled, run: 4 * second, stop: 5 * second,
			heard:  []string{"terminated at 4s", "killed at 9s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name:      "canceled at the deadline",
			meanwhile: func(_ *Run, _ *role, cancel func()) { at(10*second, cancel) },
			cause:     CauseCanceled, run: 10 * second, stop: 5 * second,
			heard:  []string{"terminated at 10s", "killed at 15s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "Stop, and all else that comes during the grace period",
			meanwhile: func(r *Run, _ *role, cancel func()) {
				at(4*second, r.Stop)
				at(5*second, r.Stop)
				at(6*second, cancel)
				at(7*second, func() { assert.False(t, r.SetTimeout(time.Hour)) })
			},
			cause: CauseStopped, run: 4 * second, stop: 5 * second,
			heard:  []string{"terminated at 4s", "killed at 9s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name:      "Kill",
			meanwhile: func(r *Run, _ *role, _ func()) { at(4*second, r.Kill) },
			cause:     CauseStopped, run: 4 * second, heard: []string{"killed at 4s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name:      "Kill during the grace period",
			meanwhile: func(r *Run, _ *role, cancel func()) { at(4*second, cancel); at(6*second, r.Kill) },
			cause:     CauseCanceled, run: 4 * second, stop: 2 * second,
			heard:  []string{"terminated at 4s", "killed at 6s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "diagnostic signal", set: diagnostic, cause: CauseTimeout,
			run: 10 * second, diagnostic: 3 * second, stop: 5 * second,
			heard:  []string{"quit at 10s", "terminated at 13s", "killed at 18s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "it dies of the diagnostic signal", set: diagnostic, cause: CauseTimeout,
			obeys: map[syscall.Signal]time.Duration{syscall.SIGQUIT: second},
			run:   10 * second, diagnostic: second, heard: []string{"quit at 10s"},
			signal: syscall.SIGQUIT, by: SignalerSafeexec,
		},
		{
			name: "Kill leaves no time for a diagnostic signal", set: diagnostic,
			meanwhile: func(r *Run, _ *role, _ func()) { at(4*second, r.Kill) },
			cause:     CauseStopped, run: 4 * second, heard: []string{"killed at 4s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "Kill after the diagnostic signal", set: diagnostic,
			meanwhile: func(r *Run, _ *role, _ func()) { at(11*second, r.Kill) },
			cause:     CauseTimeout, run: 10 * second, diagnostic: second,
			heard:  []string{"quit at 10s", "killed at 11s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "who writes too much is not asked what it does", set: diagnostic,
			meanwhile: func(_ *Run, p *role, _ func()) {
				stage := <-p.stage
				at(4*second, func() { stage.End(int(CauseOutputLimit)) })
			},
			cause: CauseOutputLimit, run: 4 * second, stop: 5 * second,
			heard:  []string{"terminated at 4s", "killed at 9s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "who is to have limits is not asked either", set: diagnostic,
			meanwhile: func(r *Run, _ *role, _ func()) { r.Facts.LimitErr = syscall.EPERM },
			cause:     CauseLimits, stop: 5 * second,
			heard:  []string{"terminated at 0s", "killed at 5s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "idle", set: func(c *Config) { c.Idle = 3 * second },
			cause: CauseIdle, run: 3 * second, stop: 5 * second,
			heard:  []string{"terminated at 3s", "killed at 8s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name:      "a later timeout",
			meanwhile: func(r *Run, _ *role, _ func()) { at(5*second, func() { r.SetTimeout(20 * second) }) },
			cause:     CauseTimeout, run: 20 * second, stop: 5 * second,
			heard:  []string{"terminated at 20s", "killed at 25s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name:      "a timeout that has passed",
			meanwhile: func(r *Run, _ *role, _ func()) { at(5*second, func() { r.SetTimeout(2 * second) }) },
			cause:     CauseTimeout, run: 5 * second, stop: 5 * second,
			heard:  []string{"terminated at 5s", "killed at 10s"},
			signal: syscall.SIGKILL, by: SignalerSafeexec,
		},
		{
			name: "exit at the deadline",
			meanwhile: func(_ *Run, p *role, _ func()) {
				at(10*second, func() { p.end(seam.End{}) })
			},
			cause: CauseExited, run: 10 * second,
		},
		{
			name: "exit, Stop and cancel at once",
			meanwhile: func(r *Run, p *role, cancel func()) {
				at(4*second, func() { cancel(); r.Stop(); p.end(seam.End{}) })
			},
			cause: CauseExited, run: 4 * second,
		},
		{
			name:  "a signal of the caller's",
			obeys: map[syscall.Signal]time.Duration{syscall.SIGINT: 0},
			meanwhile: func(r *Run, _ *role, _ func()) {
				at(4*second, func() { assert.NoError(t, r.Signal(syscall.SIGINT)) })
			},
			cause: CauseExited, run: 4 * second, heard: []string{"interrupt at 4s"},
			signal: syscall.SIGINT, by: SignalerCaller,
		},
		{
			name: "a signal of somebody else's",
			meanwhile: func(_ *Run, p *role, _ func()) {
				at(4*second, func() { p.end(seam.End{Status: seam.Signaled(syscall.SIGTERM)}) })
			},
			cause: CauseExited, run: 4 * second, signal: syscall.SIGTERM, by: SignalerOther,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				cfg := bounds()
				if tt.set != nil {
					tt.set(cfg)
				}
				p := &role{obeys: tt.obeys, deaf: tt.deaf}
				if p.obeys == nil {
					p.obeys = dies
				}
				r := played(t, ctx, cfg, p, func(r *Run) {
					if tt.meanwhile != nil {
						tt.meanwhile(r, p, cancel)
					}
				})
				f := &r.Facts
				assert.Equal(t, tt.cause, f.Cause)
				assert.Equal(t, tt.heard, p.heard)
				assert.Equal(t, Times{
					Run: tt.run, Diagnostic: tt.diagnostic, Stop: tt.stop, Total: tt.run + tt.diagnostic + tt.stop,
				}, f.Times)
				assert.Equal(t, tt.run, f.After)
				assert.Equal(t, tt.signal, f.Signal)
				assert.Equal(t, tt.by, f.SignaledBy)
				assert.Empty(t, f.Survivors)
				assert.Empty(t, f.Abandoned)
				assert.Same(t, f.State, r.cmd.ProcessState)
				if tt.cause == CauseExited {
					assert.Empty(t, r.host.ending)
				} else {
					assert.Equal(t, []Cause{tt.cause}, r.host.ending)
				}
				assert.False(t, r.SetTimeout(time.Hour), "too late")
			})
		})
	}
}

// The end of a context of WithForce is the end of the grace period, whether it has begun or not.
func TestForce(t *testing.T) {
	for forced, heard := range map[time.Duration][]string{
		2 * time.Second: {"killed at 4s"},
		6 * time.Second: {"terminated at 4s", "killed at 6s"},
	} {
		synctest.Test(t, func(t *testing.T) {
			force, end := context.WithCancel(t.Context())
			defer end()
			cfg := bounds()
			cfg.Forces = []context.Context{force}
			p := &role{obeys: dies}
			r := played(t, t.Context(), cfg, p, func(r *Run) {
				at(4*time.Second, r.Stop)
				at(forced, end)
			})
			assert.Equal(t, CauseStopped, r.Facts.Cause, "force alone ends nothing")
			assert.Equal(t, heard, p.heard)
		})
	}
}

// What does not die of SIGKILL is left behind after the kill timeout.
func TestSurvivor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &role{obeys: map[syscall.Signal]time.Duration{}}
		r := played(t, t.Context(), bounds(), p, func(r *Run) { r.Facts.Program = "stone" })
		f := &r.Facts
		assert.Equal(t, []string{"terminated at 10s", "killed at 15s"}, p.heard)
		assert.Equal(t, 7*time.Second, f.Times.Stop)
		assert.Equal(t, []proctree.Process{{PID: f.PID, Name: "stone"}}, f.Survivors)
		assert.Equal(t, []Abandoned{AbandonedLeader}, f.Abandoned)
		assert.Nil(t, f.State)
		assert.Zero(t, f.Signal)
		assert.Zero(t, f.SignaledBy)
	})
}

// A report is asked for where the command may be stuck, and unless the options say otherwise.
func TestReportIsAskedFor(t *testing.T) {
	for _, tt := range []struct {
		cause    Cause
		noReport bool
		want     bool
	}{{CauseIdle, false, true}, {CauseIdle, true, false}, {CauseOutputLimit, false, false}} {
		synctest.Test(t, func(t *testing.T) {
			cfg := bounds()
			cfg.NoReport = tt.noReport
			p := &role{obeys: dies}
			r := played(t, t.Context(), cfg, p, func(*Run) {
				stage := <-p.stage
				stage.End(int(tt.cause))
			})
			assert.Equal(t, tt.cause, r.Facts.Cause)
			assert.Equal(t, tt.want, r.Facts.Reported)
		})
	}
}

// What an actor tells of its end is in the facts.
func TestActorsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := new(role)
		r := played(t, t.Context(), bounds(), p, func(*Run) {
			p.end(seam.End{Lost: true, Unseen: true, Limits: syscall.EPERM})
		})
		f := &r.Facts
		assert.Equal(t, CauseExited, f.Cause)
		require.ErrorIs(t, f.WaitErr, syscall.ECHILD)
		assert.Nil(t, f.State)
		assert.True(t, r.Unseen)
		assert.Equal(t, syscall.EPERM, f.LimitErr)
		assert.False(t, r.Ask(func() {}, nil), "nobody answers any more")
	})
}

// What was kept of an actor's output is in order at the end, so that it is only read from then on.
func TestActorsOutputIsSealed(t *testing.T) {
	p := &role{says: []string{"abcd", "e"}, exits: make(chan seam.End, 1), stage: make(chan seam.Stage, 1)}
	cfg := patient()
	cfg.OutputLimit = 4
	r := fresh()
	r.live(t, seam.With(t.Context(), p), exec.Command("nothing"), cfg)
	<-p.stage
	r.has(t, func() bool { return r.Streams.Each[1].Out.Total() == 5 })
	p.end(seam.End{})
	<-r.over
	assert.Equal(t, "abde", string(r.Streams.Each[1].Keep.Bytes()))
	f := r.ends(t)
	assert.Equal(t, "abde", string(f.Output[1].Data))
	assert.EqualValues(t, 1, f.Output[1].Dropped)
}

// What the caller's code that a run calls does to its goroutine does not leave the command behind.
func TestRescueOfAnActor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &role{obeys: dies}
		var of *Run
		assert.PanicsWithValue(t, "context", func() {
			played(t, t.Context(), bounds(), p, func(r *Run) {
				of = r
				r.ctx = fixed{Context: r.ctx, asks: func() { panic("context") }}
			})
		})
		assert.Equal(t, []string{"killed at 0s"}, p.heard)
		assert.Equal(t, syscall.SIGKILL, of.Facts.State.Sys().(syscall.WaitStatus).Signal())
		assert.False(t, of.questions.Put(func() {}))
	})
}

// refusing answers that nothing is started.
type refusing func() error

func (f refusing) Start(seam.Call) (seam.Program, error) { return nil, f() }

// Why a fake starts nothing is what a real start would say, and a start that stalls does so until the run must end.
func TestFakesRefusal(t *testing.T) {
	several := seam.Errors{ErrBadDir, syscall.ENOENT}
	refused := func(ctx context.Context, f refusing) (trial, error) {
		return tried(seam.With(ctx, f), exec.Command("nothing"), patient())
	}
	_, err := refused(t.Context(), func() error { return several })
	assert.Equal(t, Errors(several), err)

	r, err := refused(t.Context(), func() error { return os.ErrNotExist })
	assert.Equal(t, &StartError{os.ErrNotExist}, err)
	assert.Zero(t, r.Facts.Cause)

	for cause, err := range map[Cause]error{
		CauseTimeout: context.DeadlineExceeded, CauseCanceled: context.Canceled,
	} {
		r, got := refused(t.Context(), func() error { return err })
		assert.Equal(t, Errors{ErrCause, err}, got)
		assert.Equal(t, cause, r.Facts.Cause)
	}

	ctx, cancel := context.WithCancel(t.Context())
	r, err = refused(ctx, func() error { cancel(); return ErrStartStalled })
	assert.Equal(t, Errors{ErrCause, ErrStartStalled}, err)
	assert.Equal(t, CauseCanceled, r.Facts.Cause)
	assert.Equal(t, []Abandoned{AbandonedStart}, r.Facts.Abandoned)

	_, err = refused(ctx, func() error { return errors.New("it is not asked") })
	assert.Equal(t, ErrCause, err)
	assert.Empty(t, runs.calls, "nothing is listed any more")
}
