package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed841d8200/safeexec"
)

var errCanceled = errors.New("canceled by request")

// take sees one delivery through.
func (w *worker) take(ctx context.Context, m jetstream.Msg) {
	var j Job
	meta, err := m.Metadata()
	if err == nil {
		err = decode(m.Data(), &j)
	}
	if err == nil {
		err = j.check(w.limit)
	}
	if err != nil {
		say("a job that nobody could have submitted: %v", err)
		_ = m.Term()
		return
	}
	if meta.NumDelivered > 1 {
		w.again.Add(1)
	}
	w.leaseBeats(m, func() {
		if err := w.handle(ctx, m, j, meta.NumDelivered); err != nil && ctx.Err() == nil {
			say("job %s: %v", j.ID, err) // the lease runs out, and it comes again
		}
	})
}

func (w *worker) handle(ctx context.Context, m jetstream.Msg, j Job, n uint64) error {
	var accepted Result
	var found, canceled bool
	if err := persist(ctx, func(ctx context.Context) (err error) {
		if found, _, err = w.get(ctx, "result."+j.ID, &accepted); err == nil && !found {
			canceled, _, err = w.get(ctx, "cancel."+j.ID, new(struct{}))
		}
		return err
	}); err != nil {
		return err
	}
	if found {
		return m.Ack()
	}
	rec, first, err := w.journal.begin(j.ID, m.Reply())
	switch {
	case err != nil:
		return err
	case !first && rec.Result != nil:
		return w.publish(ctx, rec) // it ended here, and the answer got lost
	case !first:
		return nil // it runs here, and answers when it ends
	}
	result := Result{ID: j.ID, Host: w.host, Attempt: n, Code: -1}
	switch {
	case canceled:
		result.State, result.Text = Canceled, "canceled before it began"
	case n > maxAttempts:
		result.State, result.Text = Lost, "delivered too often"
	default:
		if again := w.run(ctx, j, &rec, &result); again != nil {
			rec.Settled = true
			return errors.Join(again, w.journal.put(rec), m.NakWithDelay(time.Second))
		}
	}
	rec.Result = &result
	if err := w.journal.put(rec); err != nil {
		return err
	}
	return w.publish(ctx, rec)
}

// run runs the command. The error says that it is to be run again.
func (w *worker) run(ctx context.Context, j Job, rec *record, result *Result) error {
	lock, err := lockFile(w.lockPath(j.ID))
	if err != nil {
		return err // what a killed predecessor left lives
	}
	defer lock.Close()
	file, err := os.OpenFile(w.logPath(j.ID), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	mine, end := context.WithCancelCause(ctx)
	defer end(nil)
	w.mu.Lock()
	w.running[j.ID] = end
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.running, j.ID)
		w.mu.Unlock()
	}()
	var canceled bool // once more: before, no message would have reached this run
	if canceled, _, err = w.get(ctx, "cancel."+j.ID, new(struct{})); err == nil && canceled {
		end(errCanceled)
	}
	result.Began = time.Now()
	go func() { // for viewers; by itself within a request's time
		one, cancel := context.WithTimeout(context.WithoutCancel(ctx), tryFor)
		defer cancel()
		_, _ = w.kv.Put(one, "run."+j.ID, encode(attempt{w.host, result.Attempt, result.Began}))
	}()

	out := &output{file: file, nc: w.nc, subject: outSubject + j.ID, who: result.who()}
	cmd := exec.Command(j.Args[0], j.Args[1:]...)
	cmd.Dir = j.Dir
	cmd.Env = append(os.Environ(), "FLEET_ID="+j.ID, "FLEET_HOST="+w.host)
	cmd.Stdout = out
	cmd.ExtraFiles = []*os.File{lock} // held by all of the tree
	p, err := safeexec.Start(mine, cmd, options(j.Timeout)...)
	var res safeexec.Result
	if err == nil {
		about := p.Info()
		rec.Process = &about
		if err := w.journal.put(*rec); err != nil {
			_, _ = p.Stop()
			return err
		}
		res, err = p.Wait()
	}
	result.Ended, result.Code, result.Bytes, result.Dropped = time.Now(), res.ShellCode(), out.total, out.dropped
	result.State, result.Text = Failed, res.Describe(err)
	switch {
	case errors.Is(context.Cause(mine), errCanceled):
		result.State = Canceled
	case ctx.Err() != nil && err != nil:
		return ctx.Err() // this worker stops: another one runs it
	case err == nil && res.Success():
		result.State = Succeeded
	case errors.Is(err, safeexec.ErrGuard):
		return err // of this host, not of the command
	}
	if out.total > 0 {
		result.Log = j.ID + "." + result.who()
	}
	return nil
}

// publish makes a result known, and has the queue and the journal forget the job.
func (w *worker) publish(ctx context.Context, rec record) error {
	ctx, stop := patient(ctx)
	defer stop()
	r := *rec.Result
	if r.Log != "" {
		if err := w.upload(ctx, r.Log, w.logPath(r.ID)); err != nil {
			return err
		}
	}
	accepted, err := w.accept(ctx, r)
	if err != nil {
		return err
	}
	if r.Log != "" && accepted.Log != r.Log {
		w.forgetLog(ctx, r.Log)
	}
	_ = w.nc.Publish(rec.Reply, []byte("+ACK")) // one that gets lost comes again, and finds the result
	rec.Settled = true
	_ = os.Remove(w.logPath(r.ID))
	if lock, err := lockFile(w.lockPath(r.ID)); err == nil { // else a process that could not be killed has it
		_ = os.Remove(w.lockPath(r.ID))
		lock.Close()
	}
	return w.journal.put(rec)
}

// patient goes on for a while after the end of ctx.
func patient(ctx context.Context) (context.Context, context.CancelFunc) {
	on, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, func() {
		time.AfterFunc(lastWords, cancel)
	})
	return on, func() { unwatch(); cancel() }
}

// recover sees to what a predecessor left. Its guard ends the commands; here they are ended as well, should the guard
// be gone too, and nothing is run again before the last process has let go of the lock.
func (w *worker) recover(ctx context.Context) error {
	for _, rec := range w.journal.left {
		if rec.Result != nil {
			if err := w.publish(ctx, rec); err != nil {
				return err
			}
			continue
		}
		if rec.Process != nil {
			_, err := safeexec.KillTree(ctx, *rec.Process, options(w.limit)...)
			if err != nil && !errors.Is(err, safeexec.ErrNoProcess) {
				say("job %s: %v", rec.ID, err)
			}
		}
		if err := w.unlocked(ctx, rec.ID); err != nil {
			say("job %s is not run here: %v", rec.ID, err) // its record stays
			continue
		}
		rec.Settled = true
		if err := w.journal.put(rec); err != nil {
			return err
		}
		_ = w.nc.Publish(rec.Reply, []byte("-NAK")) // or its lease runs out
	}
	return nil
}

// unlocked waits until no process holds the lock of a job, for as long as the guard may need to end it.
func (w *worker) unlocked(ctx context.Context, id string) error {
	bound := time.Now().Add(safeexec.StopBound(options(w.limit)...) + leaseMargin)
	for {
		lock, err := lockFile(w.lockPath(id))
		if err == nil {
			return errors.Join(os.Remove(w.lockPath(id)), lock.Close())
		}
		if time.Now().After(bound) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
