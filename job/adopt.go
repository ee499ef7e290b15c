package job

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// An Adoption is what [Store.Adopt] found of one job.
type Adoption struct {
	Job    *Job
	Status Status // afterwards
	// Ended says that it had ended without having been seen to, or was ended: its timeout had
	// passed, or its start was broken off. Status.Reason tells.
	Ended bool
	Err   error
}

// Adopt takes over the jobs that no living program keeps. It keeps those that run from now on: their
// timeout, their log, their messages. It ends those whose timeout has passed meanwhile, and what a start
// has left that SIGKILL broke off. It records the end of those that have ended. Call it after [Open], and
// again when another program that uses the store has ended.
//
// It returns all jobs of the store. The error is about the store; an [Adoption] holds the error of its job.
func (s *Store) Adopt(ctx context.Context) ([]Adoption, error) {
	jobs, err := s.List()
	if err != nil {
		return nil, err
	}
	found := make([]Adoption, len(jobs))
	places := make(chan struct{}, adoptedAtOnce)
	var all sync.WaitGroup
	for i, j := range jobs {
		places <- struct{}{}
		all.Go(func() {
			a := Adoption{Job: j}
			a.Ended, a.Err = j.adopt(ctx)
			st, err := j.Status()
			a.Status, a.Err = st, errors.Join(wrap("adopt", j.name, a.Err), err)
			found[i] = a
			<-places
		})
	}
	all.Wait()
	return found, nil
}

// adoptedAtOnce is how many jobs are taken over at a time: one that has to be ended takes its grace.
const adoptedAtOnce = 16

// awaitOver waits until the keeper has seen the end, which has come.
func (k *keeper) awaitOver(ctx context.Context) error {
	late := time.NewTimer(lockBound)
	defer late.Stop()
	select {
	case <-k.over:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-k.released:
		return nil // or the store was closed
	case <-late.C:
		return safeexec.ErrTreeUnseen
	}
}

func (j *Job) adopt(ctx context.Context) (ended bool, err error) {
	k, r, err := j.takeOver(ctx)
	if err != nil || r == nil {
		return false, err
	}
	if k != nil {
		k.begin()
	}
	st, err := j.statusOf(r)
	switch {
	case err != nil:
		return false, err
	case st.State == Elsewhere:
		return false, nil
	case st.State == Gone:
		if k != nil { // it looks for itself, and may get the exit status
			return true, k.awaitOver(ctx)
		}
		return true, j.update(ctx, r.id(), (*record).close)
	case st.State == Half:
		_, err = j.end(ctx, context.WithoutCancel(ctx), ByHalfStart, r.id(), r.Settings.ladder())
		return err == nil, err
	case k != nil && r.overdue(): // the keeper ends it
		select {
		case err := <-k.late:
			return err == nil, err
		case <-k.released:
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
	return false, nil
}

func (r *record) overdue() bool {
	now, err := sys.Boottime()
	return err == nil && r.Deadline > 0 && now >= r.Deadline
}

// takeOver makes a keeper for a job that no program keeps. The record is nil if the job has ended or is
// kept.
func (j *Job) takeOver(ctx context.Context) (*keeper, *record, error) {
	unlock, err := j.store.lock(ctx, j.name) // a start that is under way has it
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	r, err := read(j.dir())
	if err != nil || r.Phase == phaseEnded {
		return nil, nil, err
	}
	fit, err := j.store.fits(r)
	if err != nil || fit != Running || r.Phase != phaseStarted {
		return nil, r, err
	}
	lock, taken, err := lockKeeper(j.dir(), int64(r.Run))
	if err != nil || !taken {
		return nil, nil, err
	}
	k := newKeeper(j, r, lock)
	close(k.ready) // nothing waits
	if st, err := procfs.ReadStatNoComm(r.Trace.PID); err == nil && st.StartTime == r.Trace.Start &&
		st.PPID == os.Getpid() {
		k.process, _ = os.FindProcess(r.Trace.PID) // this program has closed the store, and opened it again
	}
	if r.Settings.Socket != "" {
		if k.socket, err = listenAt(r.Settings.Socket); err != nil {
			k.socket = nil // its messages are lost, and nothing else
		}
	}
	if !j.store.add(k) {
		k.release()
		return nil, nil, ErrClosed
	}
	return k, r, nil
}

// Input writes to the FIFO of a job that was started with the option [Input], until the context is
// done. It returns how much was written: the FIFO holds 64 KiB, and the job may not read.
func (j *Job) Input(ctx context.Context, p []byte) (int, error) {
	f, err := os.OpenFile(filepath.Join(j.dir(), inputFile), os.O_WRONLY|nonblock, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return 0, wrap("feed", j.name, ErrNoInput)
	case sys.NoReader(err):
		return 0, wrap("feed", j.name, ErrEnded)
	case err != nil:
		return 0, wrap("feed", j.name, err)
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	go func() { // a process that holds the pipe's lock holds up the write, whatever its deadline
		defer f.Close()
		n, err := f.Write(p)
		done <- result{n, err}
	}()
	stop := context.AfterFunc(ctx, func() { _ = f.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	select {
	case r := <-done:
		if r.err != nil && ctx.Err() != nil {
			r.err = context.Cause(ctx)
		}
		return r.n, wrap("feed", j.name, r.err)
	case <-ctx.Done():
	}
	select {
	case r := <-done:
		if r.err != nil {
			r.err = context.Cause(ctx)
		}
		return r.n, wrap("feed", j.name, r.err)
	case <-time.After(joinTime):
		return 0, wrap("feed", j.name, context.Cause(ctx))
	}
}
