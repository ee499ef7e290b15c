package job

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/ending"
	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A Stopped is what ending a job did. It is filled beside an error too.
type Stopped struct {
	Killed    []safeexec.ProcessInfo // that were signaled and are gone, the oldest first
	Survivors []safeexec.Survivor    // that are alive
}

// A rungs is the ladder that ends a job: SIGTERM unless grace is negative, then SIGKILL.
type rungs struct{ grace, kill time.Duration }

func (s *settings) ladder() rungs   { return rungs{s.Grace, s.Kill} }
func (s *settings) killOnly() rungs { return rungs{-1, s.Kill} }

// Stop ends the job: it sends SIGTERM and SIGCONT to each process of its tree, waits for [Grace], then
// stops the survivors and sends SIGKILL. A deadline of the context comes out of the grace first; when the
// context is canceled it sends nothing more. It returns once a look has found the tree empty, or with
// [safeexec.ErrSurvivors] or [safeexec.ErrTreeUnseen]. Marks find the processes that left the session or
// have lost the first process.
//
// A job that has ended, or whose record matches no process, is no error, and no process is signaled.
func (j *Job) Stop(ctx context.Context) (Stopped, error) {
	return j.stop(ctx, (*settings).ladder)
}

// Kill is Stop without SIGTERM.
func (j *Job) Kill(ctx context.Context) (Stopped, error) {
	return j.stop(ctx, (*settings).killOnly)
}

func (j *Job) stop(ctx context.Context, ladder func(*settings) rungs) (Stopped, error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return Stopped{}, wrap("stop", j.name, context.Cause(ctx))
	}
	r, err := read(j.dir())
	if err != nil {
		return Stopped{}, wrap("stop", j.name, err)
	}
	did, err := j.end(ctx, context.WithoutCancel(ctx), ByStop, r.id(), ladder(&r.Settings))
	return did, wrap("stop", j.name, err)
}

// readStarted reads the record once no start is under way.
func readStarted(ctx context.Context, j *Job) (*record, error) {
	r, err := read(j.dir())
	if err != nil || r.Phase != phaseStarting {
		return r, err
	}
	unlock, err := j.store.lock(ctx, j.name)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return read(j.dir())
}

// end ends what was started, and writes down that it has ended; the last write goes on until last is done.
func (j *Job) end(ctx, last context.Context, reason Reason, id startID, ladder rungs) (Stopped, error) {
	r, err := readStarted(ctx, j)
	if err != nil {
		return Stopped{}, err
	}
	if r.id() != id || r.Phase == phaseEnded {
		return Stopped{}, nil
	}
	fit, err := j.store.fits(r)
	switch {
	case err != nil:
		return Stopped{}, err
	case fit == Elsewhere:
		return Stopped{}, ErrElsewhere
	case fit == Gone:
		return Stopped{}, j.update(ctx, id, (*record).close)
	}
	alive, err := census(r.Trace)
	if err != nil && !errors.Is(err, safeexec.ErrTreeUnseen) {
		return Stopped{}, err
	}
	if len(alive) > 0 { // before the first signal, so that the reason is there for a program that sees the end
		// A full disk or a lock that another holds does not keep the job alive: the last update tells.
		_ = j.update(ctx, id, func(r *record) {
			if r.Reason == ByItself {
				r.Reason = reason
			}
		})
	}
	did, err := endTree(ctx, r.Trace, ladder)
	if err != nil {
		return did, err
	}
	if k := j.keeper(); k != nil && k.id() == id { // it sees the same, and has the exit status
		if k.awaitOver(ctx) == nil {
			if r, err := read(j.dir()); err == nil && (r.id() != id || r.Phase == phaseEnded) {
				return did, nil
			}
		}
	} else if j.awaitWritten(ctx, id) {
		return did, nil
	}
	return did, j.update(last, id, (*record).close)
}

// writtenTime is how long another program that keeps a job is given to write down that it has
// ended, and how.
const writtenTime = 2 * time.Second

// awaitWritten waits until another program that keeps a run has written that it has ended. It
// reports false if none keeps it, or does not write.
func (j *Job) awaitWritten(ctx context.Context, id startID) bool {
	ctx, cancel := context.WithTimeout(ctx, writtenTime)
	defer cancel()
	for pause := time.Millisecond; ; pause = min(2*pause, lastPause) {
		// Before the record is read. What a holder writes is read as of the record.
		kept := isKept(j.dir(), id.run) || isLocked(j.dir(), holds(id.run))
		r, err := read(j.dir())
		if err != nil || r.id() != id || r.Phase == phaseEnded {
			return true
		}
		if !kept || sleep(ctx, pause) != nil {
			return false
		}
	}
}

// close writes that a job has ended.
func (r *record) close() {
	if r.Phase != phaseEnded {
		r.Phase, r.Ended = phaseEnded, time.Now()
	}
	r.removeOutside()
}

// endTree climbs the ladder.
func endTree(ctx context.Context, tr proctree.Trace, rungs rungs) (Stopped, error) {
	e := &ending.Ending{Canceled: func() bool { return errors.Is(ctx.Err(), context.Canceled) }}
	if err := recall(&e.Tree, tr, lookTime); err != nil {
		return Stopped{}, err
	}
	defer e.Tree.Forget()
	if d, ok := ctx.Deadline(); ok {
		left := max(time.Until(d), 0)
		rungs.kill = min(rungs.kill, left)
		rungs.grace = min(rungs.grace, left-rungs.kill)
	}
	ladder := escalate.New(escalate.Rung{Signal: syscall.SIGKILL, Wait: rungs.kill})
	if rungs.grace >= 0 {
		ladder = escalate.New(
			escalate.Rung{Signal: syscall.SIGTERM, Wait: rungs.grace},
			escalate.Rung{Signal: syscall.SIGKILL, Wait: rungs.kill},
		)
	}
	e.Climb(ladder)
	return takeStock(ctx, e)
}

// takeStock says which processes are gone and which are alive.
func takeStock(ctx context.Context, e *ending.Ending) (Stopped, error) {
	var did Stopped
	members, sure := see(&e.Tree, lookTime)
	var errs []error
	for _, m := range members {
		did.Survivors = append(did.Survivors, safeexec.Survivor{ProcessInfo: info(m.Process), Err: m.Err})
		if m.Err != nil {
			errs = append(errs, m.Err)
		}
	}
	for _, p := range e.Killed(members) {
		did.Killed = append(did.Killed, info(p))
	}
	switch {
	case len(members) > 0:
		return did, errors.Join(append([]error{safeexec.ErrSurvivors, context.Cause(ctx)}, errs...)...)
	case !sure:
		return did, safeexec.ErrTreeUnseen
	}
	return did, nil
}

func info(p proctree.Process) safeexec.ProcessInfo {
	return safeexec.ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: p.Name}
}

// Restart stops the job, and starts it anew once none of its processes is found: what it had, a port for
// one, is free. The record gives the command, its environment and its settings; of the options, Timeout,
// Endless, Ready and StopUnready count. The error is that of Stop or of Start.
func (j *Job) Restart(ctx context.Context, opts ...Option) error {
	if err := mayRestart(j, opts); err != nil {
		return wrap("restart", j.name, err)
	}
	if _, err := j.Stop(ctx); err != nil {
		return err
	}
	c := configure(opts)
	k, err := j.begin(ctx, &c, c.again)
	if err == nil {
		err = readiness{&c, k}.await(ctx)
	}
	return wrap("restart", j.name, err)
}

// mayRestart finds what would refuse the start, before anything is stopped.
func mayRestart(j *Job, opts []Option) error {
	if j.store.ctx.Err() != nil {
		return ErrClosed
	}
	r, err := read(j.dir())
	if err != nil {
		return err
	}
	c := configure(opts)
	return c.again(r)
}

// again makes of the options of a restart, and of the settings in the record, those of both.
func (c *config) again(r *record) error {
	c.name = r.Name
	if c.bounded {
		r.Settings.Timeout = c.set.Timeout
	}
	c.bounded = true
	r.Settings.Notify = r.Settings.Notify || c.set.Notify
	c.set = r.Settings
	return c.check()
}

// Signal sends a signal to the first process. If that is not alive, as with a daemon that has put itself
// into the background, the error is [safeexec.ErrNoProcess], and no process is signaled.
func (j *Job) Signal(sig syscall.Signal) error {
	r, err := read(j.dir())
	if err != nil {
		return wrap("signal", j.name, err)
	}
	return wrap("signal", j.name, j.signal(r, sig))
}

func (j *Job) signal(r *record, sig syscall.Signal) error {
	fit, err := j.store.fits(r)
	switch {
	case err != nil:
		return err
	case fit == Elsewhere:
		return ErrElsewhere
	case fit == Gone, r.Phase != phaseStarted:
		return safeexec.ErrNoProcess
	}
	root, err := proctree.Hold(r.Trace.PID, r.Trace.Start)
	if errors.Is(err, proctree.ErrNoProcess) {
		return safeexec.ErrNoProcess
	}
	if _, ok := errors.AsType[proctree.ProtectedError](err); ok {
		return fmt.Errorf("%w: %w", safeexec.ErrProtected, err)
	}
	if err != nil {
		return err
	}
	defer root.Close()
	if !proctree.Living(r.Trace.PID, r.Trace.Start) {
		return safeexec.ErrNoProcess
	}
	return root.Signal(sig)
}

// Wait waits until no process of the job is alive, and returns its status. If the job failed, the error is
// an [*exec.ExitError] if this program started it; look at Status.Exit otherwise.
func (j *Job) Wait(ctx context.Context) (Status, error) {
	r, err := read(j.dir())
	if err != nil {
		return Status{Name: j.name}, wrap("wait for", j.name, err)
	}
	k := j.keeper()
	if k != nil && k.id() != r.id() {
		k = nil
	}
	if err := j.awaitEnd(ctx, r, k); err != nil {
		return Status{Name: j.name}, wrap("wait for", j.name, err)
	}
	if k == nil {
		j.awaitWritten(ctx, r.id())
	}
	st, err := j.Status()
	if err == nil && k != nil {
		err = wrap("wait for", j.name, k.failure())
	}
	return st, err
}

func (j *Job) awaitEnd(ctx context.Context, r *record, k *keeper) error {
	if k != nil {
		select {
		case <-k.over:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.ctx.Done(): // the store is closed, or it has ended
		}
	}
	fit, err := j.store.fits(r)
	switch {
	case r.Phase == phaseEnded:
		return nil
	case err != nil:
		return err
	case fit == Elsewhere:
		return ErrElsewhere
	case fit == Gone:
		return nil
	}
	return awaitEmpty(ctx, r.Trace)
}

// Report says what the job's processes are blocked in.
func (j *Job) Report(ctx context.Context) (safeexec.Report, error) {
	st, err := j.Status()
	if err != nil {
		return safeexec.Report{}, err
	}
	pid := st.PID
	if !st.First {
		r, err := read(j.dir())
		if err != nil {
			return safeexec.Report{}, wrap("report on", j.name, err)
		}
		if st.State != Running && st.State != Half {
			return safeexec.Report{}, wrap("report on", j.name, safeexec.ErrNoProcess)
		}
		members, err := census(r.Trace)
		if err != nil || len(members) == 0 {
			return safeexec.Report{}, wrap("report on", j.name, errors.Join(safeexec.ErrNoProcess, err))
		}
		pid = members[0].PID
	}
	report, err := safeexec.Explain(ctx, pid)
	return report, wrap("report on", j.name, err)
}
