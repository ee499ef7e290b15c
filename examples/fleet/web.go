package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

//go:embed page.html
var page []byte

const (
	shown   = 200                    // jobs on the page
	refresh = 250 * time.Millisecond // at most as often
)

func web(ctx context.Context, c *cli, args []string) error {
	listen := c.String("listen", "127.0.0.1:8080", "`address`")
	f, err := asked(ctx, c, args, 0)
	if err != nil {
		return err
	}
	defer f.close()
	return servePage(ctx, f, *listen)
}

func servePage(ctx context.Context, f *fleet, listen string) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	say("page at http://%s/", l.Addr())
	s := &http.Server{
		Handler: f.pages(), ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// pages only show: nothing can be changed by them.
func (f *fleet) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	mux.HandleFunc("GET /events", f.events)
	mux.HandleFunc("GET /log/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if id := r.PathValue("id"); ids.MatchString(id) {
			_, _ = f.follow(r.Context(), id, flushing{w, http.NewResponseController(w)})
		}
	})
	return mux
}

// flushing sends what is written at once.
type flushing struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	return n, errors.Join(err, f.control.Flush())
}

// events sends the view whenever it has changed.
func (f *fleet) events(w http.ResponseWriter, r *http.Request) {
	ctx := r.Context()
	jobs, err := f.kv.WatchAll(ctx)
	var nodes jetstream.KeyWatcher
	if err == nil {
		nodes, err = f.nodes.WatchAll(ctx)
	}
	if err != nil {
		http.Error(w, "no connection", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	out := flushing{w, http.NewResponseController(w)}
	p, changed := newPicture(), true
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		var e jetstream.KeyValueEntry
		select {
		case <-ctx.Done():
			return
		case e = <-jobs.Updates():
		case e = <-nodes.Updates():
		case <-tick.C:
			if !changed {
				continue
			}
			v := p.view()
			v.Jobs = v.Jobs[:min(shown, len(v.Jobs))]
			if _, err := fmt.Fprintf(out, "data: %s\n\n", encode(v)); err != nil {
				return
			}
			changed = false
		}
		if e != nil {
			p.take(e)
			changed = true
		}
	}
}
