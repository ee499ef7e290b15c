package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names in the cluster. Keys of the bucket are job.ID, run.ID, cancel.ID and result.ID.
const (
	workStream  = "FLEET_WORK"
	workSubject = "fleet.work." // and the label
	outSubject  = "fleet.out."  // and the id: live output
	drainSubj   = "fleet.drain."
	bucket      = "fleet"
	nodesBucket = "fleet_nodes"
	logsBucket  = "fleet_logs"

	heartbeat   = 2 * time.Second
	nodeTTL     = 15 * time.Second // without a heartbeat
	dedupWindow = 2 * time.Minute  // of the queue; after it the bucket tells
	tryFor      = 5 * time.Second  // one request
)

// A settings value makes a fleet that is not there yet.
type settings struct {
	replicas int
	limit    time.Duration // of the timeouts of jobs
}

// A fleet is a connection to where everything is kept.
type fleet struct {
	nc    *nats.Conn
	js    jetstream.JetStream
	kv    jetstream.KeyValue
	nodes jetstream.KeyValue
	logs  jetstream.ObjectStore
	limit time.Duration
}

// connect opens the fleet, and makes it first if need be. The limit is its maker's, since the lease of a job comes
// from it.
func connect(ctx context.Context, url string, s settings, opts ...nats.Option) (*fleet, error) {
	opts = append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(200 * time.Millisecond), nats.RetryOnFailedConnect(true),
		nats.Name("fleet"),
	}, opts...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		return nil, err
	}
	f := &fleet{nc: nc}
	if f.js, err = jetstream.New(nc); err == nil {
		err = persist(ctx, func(ctx context.Context) error { return f.open(ctx, s) })
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("fleet at %s: %w", url, err)
	}
	return f, nil
}

func (f *fleet) close() { f.nc.Close() }

func (f *fleet) open(ctx context.Context, s settings) error {
	stream, err := f.js.Stream(ctx, workStream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		stream, err = f.js.CreateStream(ctx, jetstream.StreamConfig{
			Name: workStream, Subjects: []string{workSubject + ">"}, Retention: jetstream.WorkQueuePolicy,
			Replicas: s.replicas, Duplicates: dedupWindow, Metadata: map[string]string{"limit": s.limit.String()},
		})
	}
	if err != nil {
		return err
	}
	if f.limit, err = time.ParseDuration(stream.CachedInfo().Config.Metadata["limit"]); err != nil {
		return err
	}
	if f.kv, err = f.keyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, Replicas: s.replicas}); err != nil {
		return err
	}
	nodes := jetstream.KeyValueConfig{
		Bucket: nodesBucket, Replicas: s.replicas, TTL: nodeTTL, Storage: jetstream.MemoryStorage,
	}
	if f.nodes, err = f.keyValue(ctx, nodes); err != nil {
		return err
	}
	f.logs, err = f.js.ObjectStore(ctx, logsBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		f.logs, err = f.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: logsBucket, Replicas: s.replicas})
	}
	return err
}

func (f *fleet) keyValue(ctx context.Context, c jetstream.KeyValueConfig) (jetstream.KeyValue, error) {
	kv, err := f.js.KeyValue(ctx, c.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = f.js.CreateKeyValue(ctx, c)
	}
	return kv, err
}

// consumer returns the queue of a label, which all its machines share.
func (f *fleet) consumer(ctx context.Context, label string, lease time.Duration) (jetstream.Consumer, error) {
	return f.js.CreateOrUpdateConsumer(ctx, workStream, jetstream.ConsumerConfig{
		Durable: strings.ReplaceAll(label, ".", "_"), FilterSubject: workSubject + label,
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: lease, MaxAckPending: -1,
	})
}

// get reads a value; there is none with found == false.
func (f *fleet) get(ctx context.Context, key string, value any) (found bool, revision uint64, err error) {
	e, err := f.kv.Get(ctx, key)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		return false, 0, nil
	case err != nil:
		return false, 0, err
	}
	return true, e.Revision(), json.Unmarshal(e.Value(), value)
}

// persist tries until it succeeds, the error is the answer to a question, or ctx ends: servers come and go.
func persist(ctx context.Context, try func(context.Context) error) error {
	pause := 50 * time.Millisecond
	for {
		one, cancel := context.WithTimeout(ctx, tryFor)
		err := try(one)
		cancel()
		var refused refusal
		if err == nil || errors.As(err, &refused) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Second)
	}
}

// A refusal is an error that another try does not change.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // of types of this program
	}
	return text
}
