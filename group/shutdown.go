package group

import (
	"context"
	"time"

	"github.com/seed841d8200/safeexec"
)

// StopBound returns how long [Group.Shutdown] takes at most, given what runs now: the longest
// [safeexec.StopBound] of its jobs.
func (g *Group) StopBound() time.Duration { return g.stopBound(g.Running()) }

// stopBound reads the jobs' options, which end drops.
func (g *Group) stopBound(running []*Job) (bound time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, j := range running {
		bound = max(bound, safeexec.StopBound(g.options(j)...))
	}
	return bound
}

// Shutdown ends the group, for good: the jobs that wait are never started, the trees of those that run
// are all signaled at once, each with its own ladder, and no job is taken any more. It returns when all
// have ended, at the latest after [Group.StopBound] or when ctx is done. The error is nil if nothing is
// left, else a *[ShutdownError] that lists what did not end: it is still being ended.
//
// It may be called again, to wait for the rest.
func (g *Group) Shutdown(ctx context.Context) error {
	switch {
	case ctx == nil:
		return &safeexec.ConfigError{Name: "ctx", Reason: "is nil"}
	case g == nil || g.ctx == nil:
		return nil
	}
	g.cancel(ErrShutdown)
	running := g.Running() // proceed, which has the same lock, starts no more
	bound := time.NewTimer(g.stopBound(running))
	defer bound.Stop()
	g.refuseWaiting() // Shutdown need not wait for the call that the context makes

	var left ShutdownError
	for _, j := range running {
		select { // a job that has ended is never called overdue
		case <-j.done:
		default:
			if left.Err == nil {
				left.Err = j.await(ctx, bound)
			}
			if left.Err != nil && !j.over() {
				left.Jobs = append(left.Jobs, j)
				continue
			}
		}
		left.Survivors = append(left.Survivors, j.result.Survivors...)
	}
	switch {
	case len(left.Jobs) > 0:
		return &left
	case len(left.Survivors) > 0:
		left.Err = safeexec.ErrSurvivors
		return &left
	}
	return nil
}

// await waits for the end of the job, and says what came first if that did not.
func (j *Job) await(ctx context.Context, bound *time.Timer) error {
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-bound.C:
		return ErrOverdue
	}
}

func (j *Job) over() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// Serve is the group as a service of a supervisor: it waits until ctx or the group's own context is
// done, shuts the group down and returns why: the error of [Group.Shutdown], or of the job that failed
// with [StopOnError], or the cause of the context. A group serves once.
func (g *Group) Serve(ctx context.Context) error {
	switch {
	case ctx == nil:
		return &safeexec.ConfigError{Name: "ctx", Reason: "is nil"}
	case g == nil || g.ctx == nil:
		return ErrNotMade
	}
	cause := func() error { return context.Cause(g.ctx) }
	select {
	case <-ctx.Done():
		cause = func() error { return context.Cause(ctx) }
	case <-g.ctx.Done():
	}
	if err := g.Shutdown(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg.stopOnError && g.failed != nil {
		return g.failed
	}
	return cause()
}
