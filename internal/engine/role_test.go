//go:build unix

package engine

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// A clock is the poller of a run in a bubble of testing/synctest. It returns once all that happens at an instant has
// happened.
type clock struct{ wake chan struct{} }

func (c clock) Add(int, poll.Direction, int) error { return nil }
func (c clock) SetsNonblock() bool                 { return false }
func (c clock) Remove(int) error                   { return nil }
func (c clock) Close()                             {}

func (c clock) Wake() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c clock) Wait(until time.Time) ([]poll.Event, error) {
	if d := time.Until(until); d > 0 {
		late := time.NewTimer(d)
		defer late.Stop()
		select {
		case <-c.wake:
		case <-late.C:
		}
	}
	synctest.Wait()
	return nil, nil
}

// A role is a program that does what a test says, and answers for all commands.
type role struct {
	obeys  map[syscall.Signal]time.Duration // dies of it so much later
	deaf   bool                             // to all others
	exits  chan seam.End
	stage  chan seam.Stage
	begun  time.Time
	heard  []string
	report any
	says   []string
}

func (p *role) Start(seam.Call) (seam.Program, error) { return p, nil }

func (p *role) Live(stage seam.Stage) seam.End {
	for _, text := range p.says {
		_, _ = io.WriteString(stage.Out, text)
	}
	p.stage <- stage
	return <-p.exits
}

func (p *role) Signal(sig syscall.Signal) bool {
	p.heard = append(p.heard, fmt.Sprintf("%v at %v", sig, time.Since(p.begun)))
	after, dies := p.obeys[sig]
	if dies {
		time.AfterFunc(after, func() { p.end(seam.End{Status: seam.Signaled(sig)}) })
	}
	return dies || !p.deaf
}

func (p *role) Report() any { return p.report }

// end is the program's death. There is one.
func (p *role) end(end seam.End) {
	select {
	case p.exits <- end:
	default:
	}
}

// played has the life of a run played by p, within a bubble, and returns it with its facts complete.
func played(t *testing.T, ctx context.Context, cfg *Config, p *role, meanwhile func(r *Run)) trial {
	p.begun = time.Now()
	p.exits, p.stage = make(chan seam.End, 1), make(chan seam.Stage, 1)
	host := new(listener)
	r := asked(cfg, p.begun)
	r.ctx, r.host = ctx, host
	poller := clock{make(chan struct{}, 1)}
	r.Poller, r.Wake, r.wake = poller, poller.Wake, poller.Wake
	r.setDeadline(p.begun)
	r.fake = p
	r.unwatch = context.AfterFunc(ctx, r.Wake)
	for _, force := range cfg.Forces {
		r.unforce = append(r.unforce, context.AfterFunc(force, r.Wake))
	}
	require.NoError(t, casting{starter{r}}.stage())
	r.Facts.Times.Start = r.lap()
	defer p.end(seam.End{}) // what survives would be left
	meanwhile(r)
	r.Supervise()
	r.Conclude()
	return trial{Run: r, host: host}
}

// bounds are those of all that is played.
func bounds() *Config {
	cfg := patient()
	cfg.Timeout, cfg.Grace, cfg.Kill, cfg.Drain = 10*time.Second, 5*time.Second, 2*time.Second, time.Second
	return cfg
}

// at has a function called when so much of a run has passed.
func at(d time.Duration, f func()) { time.AfterFunc(d, f) }
