package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/nats-io/nats.go/jetstream"
)

// submit queues a job, once for an id however often it is called. The bucket tells a job that is there; within
// the window of the queue, so does the queue, so that a submitter that died between the two steps is made good by the
// next try.
func (f *fleet) submit(ctx context.Context, j Job) (queued bool, err error) {
	if err := j.check(f.limit); err != nil {
		return false, err
	}
	err = persist(ctx, func(ctx context.Context) error {
		queued, err = f.trySubmit(ctx, j)
		return err
	})
	return queued, err
}

func (f *fleet) trySubmit(ctx context.Context, j Job) (queued bool, err error) {
	key := "job." + j.ID
	revision, err := f.kv.Create(ctx, key, encode(entry{Job: j}))
	if errors.Is(err, jetstream.ErrKeyExists) {
		var there entry
		if _, revision, err = f.get(ctx, key, &there); err != nil {
			return false, err
		}
		if there.Label != j.Label || there.Dir != j.Dir || !slices.Equal(there.Args, j.Args) || there.Timeout != j.Timeout {
			return false, refusal{fmt.Errorf("id %s: %w", j.ID, ErrConflict)}
		}
		if there.Seq != 0 {
			return false, nil
		}
	}
	if err != nil {
		return false, err
	}
	ack, err := f.js.Publish(ctx, workSubject+j.Label, encode(j), jetstream.WithMsgID(j.ID))
	if err != nil {
		return false, err
	}
	// Another that has written it in the meantime wrote the same.
	_, _ = f.kv.Update(ctx, key, encode(entry{j, ack.Sequence}), revision)
	return !ack.Duplicate, nil
}

// cancel asks for the end of a job, wherever it is.
func (f *fleet) cancel(ctx context.Context, id string) error {
	if !ids.MatchString(id) {
		return ErrID
	}
	return persist(ctx, func(ctx context.Context) error {
		_, err := f.kv.Put(ctx, "cancel."+id, []byte("{}"))
		return err
	})
}

// accept writes the result unless there is one, and returns the one that counts.
func (f *fleet) accept(ctx context.Context, r Result) (accepted Result, err error) {
	err = persist(ctx, func(ctx context.Context) error {
		_, err := f.kv.Create(ctx, "result."+r.ID, encode(r))
		if errors.Is(err, jetstream.ErrKeyExists) {
			_, _, err = f.get(ctx, "result."+r.ID, &accepted)
			return err
		}
		accepted = r
		return err
	})
	return accepted, err
}

// wait returns the result of a job once there is one.
func (f *fleet) wait(ctx context.Context, id string) (r Result, err error) {
	w, err := f.kv.Watch(ctx, "result."+id, jetstream.IgnoreDeletes())
	if err != nil {
		return r, err
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case e := <-w.Updates():
			if e != nil {
				return r, decode(e.Value(), &r)
			}
		case <-ctx.Done():
			return r, ctx.Err()
		}
	}
}
