package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed841d8200/safeexec"
)

const (
	grace       = 2 * time.Second // between SIGTERM and SIGKILL
	killTimeout = 2 * time.Second
	leaseMargin = 10 * time.Second // of a lease beyond the bound of a run: for the log and the result
	fetchWait   = time.Second
	lastWords   = 10 * time.Second // to say how runs ended when the worker is to stop
	maxAttempts = 20               // deliveries, before a job is given up
)

// A worker runs the jobs of one host.
type worker struct {
	*fleet
	host    string
	dir     string
	slots   map[string]int
	journal *journal
	lease   time.Duration

	mu       sync.Mutex
	running  map[string]context.CancelCauseFunc
	draining atomic.Bool
	again    atomic.Int64 // deliveries that were not the first
}

// options are how each job is run.
func options(timeout time.Duration) []safeexec.Option {
	return []safeexec.Option{
		safeexec.WithTimeout(timeout), safeexec.WithGracePeriod(grace), safeexec.WithKillTimeout(killTimeout),
		safeexec.WithMergedOutput(), safeexec.WithGuard(),
	}
}

func newWorker(f *fleet, host, dir string, slots map[string]int) (*worker, error) {
	if !ids.MatchString(host) {
		return nil, fmt.Errorf("host %q: %w", host, ErrID)
	}
	for label, n := range slots {
		if !labels.MatchString(label) || n < 1 {
			return nil, fmt.Errorf("label %q=%d: %w", label, n, ErrLabel)
		}
	}
	bound, err := safeexec.Bound(options(f.limit)...)
	if err != nil {
		return nil, err
	}
	j, err := openJournal(dir)
	if err != nil {
		return nil, err
	}
	return &worker{
		fleet: f, host: host, dir: dir, slots: slots, journal: j, lease: bound + leaseMargin,
		running: map[string]context.CancelCauseFunc{},
	}, nil
}

// serve runs jobs until ctx ends, which ends what runs and gives it back to the queue, or until the node is drained,
// which waits for what runs.
func (w *worker) serve(ctx context.Context) error {
	defer func() { _ = w.journal.close() }()
	if err := w.recover(ctx); err != nil {
		return err
	}
	drain, err := w.nc.Subscribe(drainSubj+w.host, func(m *nats.Msg) {
		w.draining.Store(true)
		_ = m.Respond([]byte("draining"))
	})
	if err != nil {
		return err
	}
	defer func() { _ = drain.Unsubscribe() }()
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var around sync.WaitGroup
	defer around.Wait()
	defer stop()
	watching := make(chan struct{})
	around.Go(func() { w.watchCancels(inner, watching) })
	around.Go(func() { w.beat(inner) })
	select {
	case <-watching:
	case <-ctx.Done():
		return nil
	}
	var slots sync.WaitGroup
	for label, n := range w.slots {
		for range n {
			slots.Go(func() { w.slot(ctx, label) })
		}
	}
	slots.Wait()
	return nil
}

// slot runs one job after the other. It asks for one when it is free, so that no lease runs for a job that waits here.
func (w *worker) slot(ctx context.Context, label string) {
	var queue jetstream.Consumer
	if persist(ctx, func(ctx context.Context) (err error) {
		queue, err = w.consumer(ctx, label, w.lease)
		return err
	}) != nil {
		return
	}
	for ctx.Err() == nil && !w.draining.Load() {
		batch, err := queue.Fetch(1, jetstream.FetchMaxWait(fetchWait))
		if err == nil {
			for m := range batch.Messages() {
				w.take(ctx, m)
			}
			err = batch.Error()
		}
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(200 * time.Millisecond): // no leader at the moment
			}
		}
	}
}

// watchCancels ends what others have canceled. Each job is looked up once more before it starts.
func (w *worker) watchCancels(ctx context.Context, ready chan<- struct{}) {
	var watch jetstream.KeyWatcher
	if persist(ctx, func(context.Context) (err error) {
		watch, err = w.kv.Watch(ctx, "cancel.*", jetstream.UpdatesOnly())
		return err
	}) != nil {
		return
	}
	close(ready)
	for e := range watch.Updates() { // closed at the end of ctx
		if e == nil {
			continue
		}
		w.mu.Lock()
		if end := w.running[e.Key()[len("cancel."):]]; end != nil {
			end(errCanceled)
		}
		w.mu.Unlock()
	}
}

// beat says that this node lives.
func (w *worker) beat(ctx context.Context) {
	tick := time.NewTicker(heartbeat)
	defer tick.Stop()
	for {
		w.mu.Lock()
		n := Node{w.host, w.slots, len(w.running), w.draining.Load(), os.Getpid(), time.Now()}
		w.mu.Unlock()
		one, cancel := context.WithTimeout(ctx, heartbeat)
		_, _ = w.nodes.Put(one, w.host, encode(n)) // the next one will do
		cancel()
		select {
		case <-ctx.Done():
			gone, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
			_ = w.nodes.Delete(gone, w.host)
			cancel()
			return
		case <-tick.C:
		}
	}
}

func (w *worker) logPath(id string) string  { return filepath.Join(w.dir, "logs", id) }
func (w *worker) lockPath(id string) string { return filepath.Join(w.dir, "logs", id+".lock") }

// leaseBeats keeps a lease while f goes on, also where it takes longer than it should: servers that are away.
func (w *worker) leaseBeats(m jetstream.Msg, f func()) {
	done := make(chan struct{})
	var beats sync.WaitGroup
	beats.Go(func() {
		tick := time.NewTicker(w.lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				_ = m.InProgress()
			}
		}
	})
	defer beats.Wait()
	defer close(done)
	f()
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
