//go:build unix

package engine

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// exited has a run drained whose command exits four seconds after the start, by when its outputs have come to their
// end. The tree is gone.
func exited(t *testing.T, cfg *Config, open func(r *Run)) *Run {
	t.Helper()
	r := asked(cfg, time.Now())
	poller := clock{make(chan struct{}, 1)}
	r.Poller, r.Wake, r.wake = poller, poller.Wake, poller.Wake
	open(r)
	time.Sleep(4 * time.Second)
	r.mark, r.Exited, r.Empty = time.Now(), true, true
	(&drainer{Run: r}).drain()
	r.Conclude()
	return r
}

// A Writer has the drain timeout for each call, counted from the end of the tree, and for all calls it has until the
// deadline, or one drain timeout if that is later. After Stop it is one from then on.
func TestWriterIsWaitedFor(t *testing.T) {
	const second, tenth = time.Second, time.Second / 10
	for _, tt := range []struct {
		name    string
		calls   [2]time.Duration // how long they take; the first begins at the start
		timeout time.Duration
		stop    time.Duration // 0: none
		drain   time.Duration
		lost    int64
	}{
		{name: "at once", timeout: never},
		{name: "in time", calls: [2]time.Duration{49 * tenth}, timeout: never, drain: 9 * tenth},
		{name: "both in time", calls: [2]time.Duration{49 * tenth, 9 * tenth}, timeout: never, drain: 18 * tenth},
		{name: "stuck before", calls: [2]time.Duration{never}, timeout: never, drain: second, lost: 2},
		{name: "stuck later", calls: [2]time.Duration{49 * tenth, never}, timeout: never, drain: 19 * tenth, lost: 1},
		{name: "deadline", calls: [2]time.Duration{49 * tenth, 9 * tenth}, timeout: 52 * tenth, drain: 12 * tenth, lost: 1},
		{name: "after the deadline", calls: [2]time.Duration{49 * tenth, 9 * tenth}, timeout: second, drain: second, lost: 1},
		{
			name: "Stop", calls: [2]time.Duration{49 * tenth, 9 * tenth}, timeout: never, stop: 45 * tenth,
			drain: 15 * tenth, lost: 1,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				released := make(chan struct{})
				defer close(released)
				calls := tt.calls[:]
				w := testproc.NewSlowWriter(func() {
					d := calls[0]
					calls = calls[1:]
					select {
					case <-time.After(d):
					case <-released:
					}
				})
				cfg := bounds()
				cfg.Timeout = tt.timeout
				r := exited(t, cfg, func(r *Run) {
					s := &r.Streams.Each[1]
					s.Kind, s.Output = stdio.StreamWriter, new(stdio.Output)
					s.Out.Stream(strings.NewReader("ab"), w, r.Wake)
					for range calls {
						assert.Equal(t, drain.Moved, s.Out.Pull(1))
						synctest.Wait()
					}
					if tt.stop != 0 {
						at(tt.stop, r.Stop)
					}
				})
				assert.Equal(t, tt.drain, r.Facts.Times.Drain)
				assert.Equal(t, tt.lost > 0, len(r.Facts.Abandoned) > 0)
				if tt.lost > 0 {
					assert.Equal(t, []Abandoned{AbandonedStdout}, r.Facts.Abandoned)
				}
				assert.EqualValues(t, 2, r.Facts.Output[1].Total)
				assert.Equal(t, tt.lost, r.Facts.Output[1].Undelivered)
			})
		})
	}
}

// A Reader has one drain timeout to return from its call, from Stop on if that comes later.
func TestReaderIsWaitedFor(t *testing.T) {
	for _, tt := range []struct {
		returns, stop time.Duration // 0: never
		drain         time.Duration
		stuck         bool
	}{
		{returns: 4500 * time.Millisecond, drain: 500 * time.Millisecond},
		{returns: time.Second},
		{drain: time.Second, stuck: true},
		{stop: 4500 * time.Millisecond, drain: 1500 * time.Millisecond, stuck: true},
	} {
		synctest.Test(t, func(t *testing.T) {
			reader := testproc.NewStalledReader(nil)
			defer reader.Release()
			cfg := bounds()
			cfg.Timeout = never
			r := exited(t, cfg, func(r *Run) {
				s := &r.Streams.Each[0]
				s.Kind, s.In = stdio.StreamInput, new(drain.Input)
				s.In.Feed(io.Discard, reader, r.Wake)
				assert.Equal(t, drain.Starved, s.In.Push())
				synctest.Wait()
				if tt.returns != 0 {
					at(tt.returns, reader.Release)
				}
				if tt.stop != 0 {
					at(tt.stop, r.Stop)
				}
			})
			assert.Equal(t, tt.drain, r.Facts.Times.Drain)
			if tt.stuck {
				assert.Equal(t, []Abandoned{AbandonedStdin}, r.Facts.Abandoned)
			} else {
				assert.Empty(t, r.Facts.Abandoned)
			}
		})
	}
}
