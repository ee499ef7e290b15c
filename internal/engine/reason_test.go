package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

var began = time.Now()

// failing fails at its first Write.
type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// delivered has a stream of the run bring text, to w or, if that is nil, into what is kept.
func delivered(t *testing.T, r *Run, fd int, text string, w io.Writer) {
	s := &r.Streams.Each[fd]
	s.Output = new(stdio.Output)
	if w == nil {
		s.Kind = stdio.StreamCaptured
		s.Out.Capture(strings.NewReader(text), &s.Keep)
	} else {
		s.Kind = stdio.StreamWriter
		s.Out.Stream(strings.NewReader(text), w, func() {})
	}
	if r.cfg.OverflowStops {
		s.Out.StopAt(r.cfg.OutputLimit)
	}
	testproc.Wait(t, func() bool { return s.Out.Pull(0) == drain.Ended })
	testproc.Wait(t, s.Out.Finish)
}

// triggers are the reasons to end a run, in the order of precedence.
var triggers = []struct {
	name  string
	cause Cause
	pull  func(t *testing.T, r *Run)
}{
	{"told by a test", CauseOutputLimit, func(_ *testing.T, r *Run) {
		r.actor = new(actor)
		r.actor.cut.Store(int64(CauseOutputLimit))
	}},
	{"Stop", CauseStopped, func(_ *testing.T, r *Run) { r.Stop() }},
	{"no limits", CauseLimits, func(_ *testing.T, r *Run) { r.Facts.LimitErr = syscall.EPERM }},
	{"canceled", CauseCanceled, func(_ *testing.T, r *Run) { r.ctx = fixed{Context: r.ctx, err: context.Canceled} }},
	{"deadline", CauseTimeout, func(_ *testing.T, r *Run) { r.deadline = began }},
	{"the command's own context", CauseCanceled, func(_ *testing.T, r *Run) { r.cmdCanceled.Store(true) }},
	{"too much output", CauseOutputLimit, func(t *testing.T, r *Run) {
		r.cfg.OverflowStops, r.cfg.OutputLimit = true, 3
		delivered(t, r, 1, "four", nil)
	}},
	{"Writer failed", CauseWriterFailed, func(t *testing.T, r *Run) {
		r.cfg.StopOnWriteError = true
		delivered(t, r, 2, "x", failing{})
	}},
	{"idle", CauseIdle, func(_ *testing.T, r *Run) { r.cfg.Idle, r.Facts.PID = time.Second, 1 }},
}

// Where two reasons come together the first of them is the cause, and its own veto ends neither.
func TestReasonsInOrder(t *testing.T) {
	now := began.Add(time.Second)
	assert.Equal(t, CauseNone, asked(patient(), began).reason(now))
	for i, first := range triggers {
		for _, second := range triggers[i:] {
			r := asked(patient(), began)
			second.pull(t, r)
			first.pull(t, r)
			assert.Equal(t, first.cause, r.reason(now), "%s and %s", first.name, second.name)
		}
	}
}

// What was not asked for is no reason.
func TestReasonsNotAskedFor(t *testing.T) {
	r := asked(patient(), began)
	r.cfg.OutputLimit = 3
	r.Facts.PID = 1
	delivered(t, r, 1, "four", nil)
	delivered(t, r, 2, "x", failing{})
	assert.Equal(t, CauseNone, r.reason(began.Add(time.Minute)))
	r.cfg.OverflowStops, r.cfg.StopOnWriteError = true, true
	assert.Equal(t, CauseWriterFailed, r.reason(began.Add(time.Minute)), "the stream itself has no limit")
}

func TestReasonAtTheInstant(t *testing.T) {
	cfg := patient()
	cfg.Timeout, cfg.Idle = 10*time.Second, 3*time.Second
	r := asked(cfg, began)
	assert.Equal(t, CauseNone, r.reason(began.Add(9*time.Second)), "nobody is idle before there is a command")
	assert.Equal(t, began.Add(10*time.Second), r.nextBound())

	r.Facts.PID = 1
	assert.Equal(t, began.Add(3*time.Second), r.nextBound())
	assert.Equal(t, CauseNone, r.reason(began.Add(3*time.Second-1)))
	assert.Equal(t, CauseIdle, r.reason(began.Add(3*time.Second)))

	r.Streams.LastOutput = began.Add(8 * time.Second)
	assert.Equal(t, began.Add(10*time.Second), r.nextBound(), "the deadline is earlier")
	assert.Equal(t, CauseNone, r.reason(began.Add(10*time.Second-1)))
	assert.Equal(t, CauseTimeout, r.reason(began.Add(10*time.Second)))
}

// A command that waits for the caller's Writer is not idle, and its silence begins anew.
func TestBusyWriterIsNotIdle(t *testing.T) {
	cfg := patient()
	cfg.Idle = time.Second
	r := asked(cfg, began)
	r.Facts.PID = 1
	s := &r.Streams.Each[1]
	child, err := s.End.Output()
	require.NoError(t, err)
	defer child.Close()
	defer s.End.Close()
	s.Output = new(stdio.Output)
	s.Kind, s.Blocked = stdio.StreamWriter, true
	assert.Equal(t, CauseNone, r.reason(began.Add(2*time.Second)))
	s.Blocked = false
	assert.Equal(t, began.Add(3*time.Second), r.nextBound())
	assert.Equal(t, CauseNone, r.reason(began.Add(3*time.Second-1)))
	assert.Equal(t, CauseIdle, r.reason(began.Add(3*time.Second)))
}

// That the context's deadline has passed is a timeout, and every other error of it is a cancellation.
func TestReasonOfTheContext(t *testing.T) {
	for err, want := range map[error]Cause{
		context.DeadlineExceeded: CauseTimeout,
		os.ErrDeadlineExceeded:   CauseCanceled,
		context.Canceled:         CauseCanceled,
		io.EOF:                   CauseCanceled,
	} {
		r := asked(patient(), began)
		r.ctx = fixed{Context: t.Context(), err: err} //nolint:fatcontext // each run has its own
		assert.Equal(t, want, r.reason(began), "%v", err)
	}
}

func TestEarlierDeadlineCounts(t *testing.T) {
	at := func(d time.Duration) context.Context {
		ctx, cancel := context.WithDeadline(t.Context(), began.Add(d))
		t.Cleanup(cancel)
		return ctx
	}
	for _, tt := range []struct {
		timeout time.Duration
		ctx     context.Context
		want    time.Duration
	}{
		{time.Hour, t.Context(), time.Hour},
		{0, at(2 * time.Hour), 2 * time.Hour},
		{time.Hour, at(2 * time.Hour), time.Hour},
		{2 * time.Hour, at(time.Hour), time.Hour},
	} {
		r := &Run{ctx: tt.ctx, cfg: &Config{Timeout: tt.timeout}}
		r.setDeadline(began)
		assert.Equal(t, tt.want, r.deadline.Sub(began))
	}
}

// A new timeout counts from the call on, as the old one did, and the context's deadline stays.
func TestNewTimeout(t *testing.T) {
	ctx, cancel := context.WithDeadline(t.Context(), began.Add(3*time.Hour))
	defer cancel()
	cfg := patient()
	r := asked(cfg, began)
	r.ctx = ctx
	woken := 0
	r.wake = func() { woken++ }
	assert.True(t, r.SetTimeout(2*time.Hour))
	assert.Equal(t, 1, woken)
	assert.Equal(t, CauseNone, r.reason(began.Add(2*time.Hour-1)), "later than it was")
	assert.Equal(t, CauseTimeout, r.reason(began.Add(2*time.Hour)))
	assert.Equal(t, 2*time.Hour, cfg.Timeout, "which errors name")
	assert.True(t, r.SetTimeout(4*time.Hour))
	assert.Equal(t, CauseTimeout, r.reason(began.Add(3*time.Hour)), "by the context")
	assert.True(t, r.SetTimeout(time.Minute))
	assert.Equal(t, CauseTimeout, r.reason(began.Add(time.Minute)), "earlier than it was")
	assert.Equal(t, 3, woken)
}

// When the run is to end a timeout that it has not seen may be a reason to go on, and later ones are refused.
func TestSettle(t *testing.T) {
	for _, tt := range []struct {
		name       string
		cause      Cause
		background Background
		unseen     bool // a timeout that reason has not seen
		settles    bool
		sets       bool // SetTimeout afterwards
	}{
		{name: "timeout", cause: CauseTimeout, settles: true},
		{name: "timeout, and a new one", cause: CauseTimeout, unseen: true, sets: true},
		{name: "canceled, and a new one", cause: CauseCanceled, unseen: true, settles: true},
		{name: "exit", cause: CauseExited, settles: true},
		{name: "exit, and the background is left", cause: CauseExited, background: BackgroundLeave, settles: true},
		{name: "exit, and the background counts", cause: CauseExited, background: BackgroundWait, settles: true, sets: true},
		{name: "canceled while the background counts", cause: CauseStopped, background: BackgroundWait, settles: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := patient()
			cfg.Background = tt.background
			r := asked(cfg, began)
			assert.True(t, r.SetTimeout(time.Minute))
			assert.Equal(t, CauseTimeout, r.reason(began.Add(time.Minute)))
			if tt.unseen {
				assert.True(t, r.SetTimeout(time.Hour))
			}
			assert.Equal(t, tt.settles, r.settle(tt.cause))
			assert.Equal(t, tt.sets, r.SetTimeout(2*time.Hour))
			if !tt.sets {
				assert.Equal(t, CauseTimeout, r.reason(began.Add(time.Minute)), "it stays as it was")
			}
		})
	}
}

// The wait behind a signal that can be handled ends with the grace period, that of the linger with every reason but
// silence, and that behind SIGKILL with none.
func TestCutShort(t *testing.T) {
	force, end := context.WithCancel(t.Context())
	cfg := patient()
	cfg.Forces = []context.Context{t.Context(), force}
	r := asked(cfg, began)
	all := func() [3]bool {
		return [3]bool{r.CutShort(0), r.CutShort(syscall.SIGTERM), r.CutShort(syscall.SIGKILL)}
	}
	assert.Equal(t, [3]bool{}, all())
	cfg.Idle, r.Facts.PID = 1, 1
	r.Streams.LastOutput = began.Add(-time.Hour)
	assert.Equal(t, [3]bool{}, all(), "silence")
	r.Stop()
	assert.Equal(t, [3]bool{true, false, false}, all(), "the ladder is under way and is not begun again")
	end()
	assert.Equal(t, [3]bool{true, true, false}, all())
	r = asked(patient(), began)
	r.Kill()
	assert.Equal(t, [3]bool{true, true, false}, all())
	assert.Equal(t, CauseStopped, r.reason(began))
}

func TestNoteCause(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(io.EOF)
	for cause, noted := range map[Cause]bool{
		CauseTimeout: true, CauseCanceled: true, CauseExited: false, CauseStopped: false, CauseIdle: false,
	} {
		r := asked(patient(), time.Now().Add(-time.Hour))
		r.Streams.LastOutput = time.Now().Add(-time.Minute)
		r.ctx = fixed{Context: ctx, err: ctx.Err()} //nolint:fatcontext // each run has its own
		r.Facts.Cause = cause
		r.noteCause()
		assert.GreaterOrEqual(t, r.Facts.After, time.Hour)
		assert.GreaterOrEqual(t, r.Facts.Silent, time.Minute)
		assert.Less(t, r.Facts.Silent, time.Hour)
		if noted {
			assert.Equal(t, []error{context.Canceled, io.EOF}, []error{r.Facts.CtxErr, r.Facts.CtxCause}, cause)
		} else {
			assert.Equal(t, []error{nil, nil}, []error{r.Facts.CtxErr, r.Facts.CtxCause}, cause)
		}
	}
}

// The context's own timer may come after ours: it is waited for, if it is the context's deadline that has passed.
func TestDeadlineIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name         string
		timeout, ctx time.Duration // 0 for none
		later        time.Duration // SetTimeout
		commands     bool
		want         Deadline
		err          error
	}{
		{name: "option", timeout: time.Second, want: DeadlineOption},
		{name: "option before the context", timeout: time.Second, ctx: time.Minute, want: DeadlineOption},
		{name: "context", timeout: time.Minute, ctx: time.Second, want: DeadlineContext, err: context.DeadlineExceeded},
		{name: "context alone", ctx: time.Second, want: DeadlineContext, err: context.DeadlineExceeded},
		{name: "set", timeout: time.Minute, later: time.Second, want: DeadlineSet},
		{name: "command", timeout: time.Second, commands: true, want: DeadlineCommands},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := patient()
				cfg.Timeout = tt.timeout
				r := asked(cfg, time.Now())
				if tt.ctx != 0 {
					ctx, cancel := context.WithTimeout(t.Context(), tt.ctx)
					defer cancel()
					// Our timer has come 10 ms before the context's.
					r.ctx = ctx
					r.setDeadline(time.Now())
				}
				if tt.later != 0 {
					assert.True(t, r.SetTimeout(tt.later))
					r.takeTimeout()
				}
				r.cmdCanceled.Store(tt.commands)
				time.Sleep(time.Second - 10*time.Millisecond)
				r.Facts.Cause = CauseTimeout
				r.noteCause()
				require.NoError(t, r.Facts.CtxErr)
				before := time.Now()
				r.NameCause()
				assert.Equal(t, tt.err != nil, time.Now().After(before), "nothing else is waited for")
				assert.Equal(t, tt.want, r.Facts.Settled)
				assert.Equal(t, tt.err, r.Facts.CtxErr)
				assert.Equal(t, tt.err, r.Facts.CtxCause)
			})
		})
	}
}

// A context that never agrees is waited for no longer than its timer may be late.
func TestLateContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		r := asked(&Config{}, time.Now())
		r.ctx = fixed{Context: ctx}
		r.setDeadline(time.Now())
		r.Facts.Cause = CauseTimeout
		r.noteCause()
		before := time.Now()
		r.NameCause()
		assert.Equal(t, TimerSlack, time.Since(before))
		assert.NoError(t, r.Facts.CtxErr)
	})
}

// The exit comes before every reason, also one that is seen at the very moment at which the command exits.
func TestExitComesFirst(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded, nil} {
		r := asked(patient(), began)
		r.Poller, r.actor = new(quiet), new(actor)
		if err == nil {
			r.deadline = began
		}
		r.ctx = fixed{Context: t.Context(), err: err, asks: func() { r.exitSeen.Store(true) }} //nolint:fatcontext // each run has its own
		r.observe()
		assert.Equal(t, CauseExited, r.Facts.Cause, "%v", err)
		assert.NoError(t, r.Facts.CtxErr)
		assert.False(t, r.SetTimeout(time.Hour))
	}
}

// Where there is no pidfd the kernel is asked before the reason is believed.
func TestExitIsAskedFor(t *testing.T) {
	r := asked(patient(), began)
	r.Poller = new(quiet)
	r.Stop()
	r.observe() // the zero tree has a leader that somebody else has reaped
	assert.Equal(t, CauseExited, r.Facts.Cause)
}

// The pidfd tells of the exit with the next event, which has to be asked for once more.
func TestExitByEventComesFirst(t *testing.T) {
	r := asked(patient(), began)
	events := &quiet{events: []int{ladder.TokenExit}}
	r.Poller, r.exitFD = events, 99
	r.Stop()
	r.observe()
	assert.Equal(t, CauseExited, r.Facts.Cause)
	assert.Equal(t, []int{99}, events.removed)
	assert.Equal(t, []time.Time{ladder.Past}, events.waits, "without waiting")
}

// A timeout that is set between the look at the deadline and the end is a reason to go on.
func TestSetTimeoutWinsOverTheDeadline(t *testing.T) {
	r := asked(patient(), began)
	r.deadline = began
	events := new(quiet)
	events.onWait = func() {
		switch len(events.waits) {
		case 1: // whether it has exited, before the deadline is believed
			assert.True(t, r.SetTimeout(2*never))
		case 2:
			r.Stop()
		}
	}
	r.Poller, r.exitFD = events, 99
	r.observe()
	assert.Equal(t, CauseStopped, r.Facts.Cause)
	assert.Equal(t, began.Add(2*never), r.deadline)
}

// A command that writes too much is not stuck.
func TestStuck(t *testing.T) {
	for cause := CauseTimeout; cause <= CauseWriterFailed; cause++ {
		r := asked(patient(), began)
		r.Facts.Cause = cause
		assert.Equal(t, cause != CauseOutputLimit && cause != CauseWriterFailed, r.stuck(), cause)
	}
}

func TestWaitLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for waited, want := range map[time.Duration]time.Duration{
			0: time.Millisecond, 16 * time.Millisecond: time.Millisecond, 32 * time.Millisecond: 2 * time.Millisecond,
			16 * time.Second: time.Second, time.Hour: time.Second,
		} {
			assert.Equal(t, want, time.Until(waitLook(waited)), waited)
		}
	})
}

func TestErrorsKeepTheirOrder(t *testing.T) {
	err := Errors{ErrCause, ErrStartStalled}
	assert.EqualError(t, err, ErrCause.Error())
	require.ErrorIs(t, err, ErrStartStalled)
	require.ErrorIs(t, ErrUnsupported, errors.ErrUnsupported)
	require.NotErrorIs(t, ErrNoTerminal, errors.ErrUnsupported)
	assert.EqualError(t, ErrBadDir, "safeexec: working directory cannot be used")
	var buf bytes.Buffer
	assert.True(t, SameWriter(&buf, &buf))
	assert.False(t, SameWriter(&buf, new(bytes.Buffer)))
	type odd struct {
		io.Writer
		list []int
	}
	assert.False(t, SameWriter(odd{list: []int{1}}, odd{list: []int{1}}), "which cannot be compared")
}
