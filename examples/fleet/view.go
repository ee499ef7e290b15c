package main

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// A jobView is all that is known of a job.
type jobView struct {
	Job
	State string `json:"state"` // queued, running, or a State
	Host  string `json:"host"`
	Text  string `json:"text"`
	Seq   uint64 `json:"seq"`
}

// A view is the fleet at a moment.
type view struct {
	Nodes []Node    `json:"nodes"`
	Jobs  []jobView `json:"jobs"`
}

// A picture is made of the entries of both buckets, in whatever order they come.
type picture struct {
	jobs     map[string]entry
	attempts map[string]attempt
	results  map[string]Result
	nodes    map[string]Node
}

func newPicture() *picture {
	return &picture{map[string]entry{}, map[string]attempt{}, map[string]Result{}, map[string]Node{}}
}

func (p *picture) take(e jetstream.KeyValueEntry) {
	if e.Bucket() == nodesBucket {
		set(p.nodes, e.Key(), e)
		return
	}
	kind, id, _ := strings.Cut(e.Key(), ".")
	switch kind {
	case "job":
		set(p.jobs, id, e)
	case "run":
		set(p.attempts, id, e)
	case "result":
		set(p.results, id, e)
	}
}

func set[T any](m map[string]T, key string, e jetstream.KeyValueEntry) {
	var v T
	if e.Operation() != jetstream.KeyValuePut {
		delete(m, key)
	} else if decode(e.Value(), &v) == nil {
		m[key] = v
	}
}

func (p *picture) view() view {
	v := view{Nodes: slices.SortedFunc(maps.Values(p.nodes), func(a, b Node) int { return cmp.Compare(a.Host, b.Host) })}
	for id, e := range p.jobs {
		j := jobView{Job: e.Job, State: "queued", Seq: e.Seq}
		if a, ok := p.attempts[id]; ok {
			j.State, j.Host = "running", a.Host
		}
		if r, ok := p.results[id]; ok {
			j.State, j.Host, j.Text = string(r.State), r.Host, r.Text
		}
		v.Jobs = append(v.Jobs, j)
	}
	slices.SortFunc(v.Jobs, func(a, b jobView) int { return cmp.Or(cmp.Compare(b.Seq, a.Seq), cmp.Compare(a.ID, b.ID)) })
	return v
}

// look returns the fleet as it is.
func (f *fleet) look(ctx context.Context) (v view, err error) {
	p := newPicture()
	for _, kv := range []jetstream.KeyValue{f.kv, f.nodes} {
		w, err := kv.WatchAll(ctx)
		if err != nil {
			return v, err
		}
		for e := range w.Updates() {
			if e == nil {
				break // all that there is
			}
			p.take(e)
		}
		_ = w.Stop()
	}
	return p.view(), ctx.Err()
}
