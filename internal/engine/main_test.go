package engine

import (
	"context"
	"io"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	testproc.Main(m, testproc.Warm(warm), testproc.Idle(poll.CloseIdle))
}

// warm opens what runs keep for the life of the process.
func warm() {
	r := new(Run)
	r.Facts.Started = time.Now()
	if err := r.Begin(context.Background(), exec.Command("true"), patient(), new(listener)); err == nil {
		r.Supervise()
		r.Conclude()
	}
}

// never is a bound that no test is meant to reach.
const never = time.Hour

// patient returns the configuration of a run that no bound of its own ends, but the drain: that is for what a test
// leaves for good.
func patient() *Config {
	return &Config{
		Timeout: never, Grace: never, Kill: never, Drain: never, Report: time.Second,
		TermSignal: syscall.SIGTERM, OutputLimit: 1 << 20, NoReport: true,
	}
}

// A listener is the host of a run that a test looks at.
type listener struct {
	retried []error
	ending  []Cause
	onStart func() // of AddEnv
	onRetry func()
}

func (l *listener) AddEnv(*exec.Cmd) {
	if l.onStart != nil {
		l.onStart()
	}
}

func (l *listener) Retried(err error) {
	l.retried = append(l.retried, err)
	if l.onRetry != nil {
		l.onRetry()
	}
}

func (l *listener) BeforeSignals(cause Cause)       { l.ending = append(l.ending, cause) }
func (l *listener) Played()                         {}
func (l *listener) Settings() any                   { return nil }
func (l *listener) Tee(int) *stdio.Fanout           { return nil }
func (l *listener) LastLine(io.Writer) func() error { return nil }

// A trial is a run of a test, from its start on.
type trial struct {
	*Run
	host *listener
	over chan struct{} // closed once it has lived
}

// fresh returns a run that is about to begin.
func fresh() trial {
	r := trial{new(Run), new(listener), make(chan struct{})}
	r.Facts.Started = time.Now()
	return r
}

// tried begins a run, and returns why it was not started.
func tried(ctx context.Context, cmd *exec.Cmd, cfg *Config) (trial, error) {
	r := fresh()
	return r, r.Begin(ctx, cmd, cfg, r.host)
}

// live begins a run that lives on a goroutine of its own. What the test leaves of it is killed.
func (r trial) live(t *testing.T, ctx context.Context, cmd *exec.Cmd, cfg *Config) {
	t.Helper()
	require.NoError(t, r.Begin(ctx, cmd, cfg, r.host))
	go func() {
		defer close(r.over)
		r.Supervise()
	}()
	t.Cleanup(func() {
		r.Kill()
		<-r.over
	})
}

// live begins a run as the method does.
func live(t *testing.T, cmd *exec.Cmd, cfg *Config) trial {
	t.Helper()
	r := fresh()
	r.live(t, t.Context(), cmd, cfg)
	return r
}

// ends waits for the end of the run, and completes its facts.
func (r trial) ends(t *testing.T) *Facts {
	t.Helper()
	select {
	case <-r.over:
	case <-testproc.Deadline(t).Done():
		t.Fatal("the run does not end")
	}
	r.Conclude()
	addsUp(t, &r.Facts)
	return &r.Facts
}

// ran runs a command to its end.
func ran(t *testing.T, cmd *exec.Cmd, cfg *Config) *Facts {
	t.Helper()
	return live(t, cmd, cfg).ends(t)
}

// has waits until the goroutine of the run finds that something is so.
func (r trial) has(t *testing.T, ok func() bool) {
	t.Helper()
	testproc.Wait(t, func() bool {
		found := false
		return r.Ask(func() { found = ok() }, r.over) && found
	})
}

// addsUp checks that the phases are the whole. What comes between the last phase and the end has no name.
func addsUp(t *testing.T, f *Facts) {
	t.Helper()
	p := f.Times
	sum := p.Start + p.Run + p.Report + p.Diagnostic + p.Stop + p.Drain
	assert.LessOrEqual(t, sum, p.Total, "%+v", p)
	for _, d := range []time.Duration{p.Start, p.Run, p.Report, p.Diagnostic, p.Stop, p.Drain} {
		assert.GreaterOrEqual(t, d, time.Duration(0), "%+v", p)
	}
}

// A fixed context says what a test wants.
type fixed struct {
	context.Context
	err  error
	asks func() // called by Err; or nil
}

func (c fixed) Err() error {
	if c.asks != nil {
		c.asks()
	}
	return c.err
}

// asked returns a run that nothing has happened to, for questions alone. It began at the given time.
func asked(cfg *Config, began time.Time) *Run {
	r := &Run{ctx: context.Background(), cmd: new(exec.Cmd), cfg: cfg, host: new(listener)}
	r.Facts.Started, r.mark, r.exitFD = began, began, -1
	r.Waiter = r
	r.Streams.LastOutput = began
	r.Streams.Init(&r.Climber)
	r.Wake = func() {}
	r.wake = r.Wake
	r.setDeadline(began)
	return r
}

var _ ladder.Waiter = (*Run)(nil)
