package safeexec

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/preflight"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// begin does everything up to a running command. On error nothing runs and nothing is left open; a
// command that was refused for the configuration is as it was, and can be used again.
func begin(ctx context.Context, cmd *exec.Cmd, opts []Option) (*run, error) {
	now := time.Now()
	r := &run{ctx: ctx, cmd: cmd, mark: now, exitFD: -1}
	r.streams.LastOutput = now
	r.streams.Init(&r.Ending)
	r.Waiter = r
	r.result = Result{Program: r.program(), ExitCode: -1, Times: Times{Started: now}}
	if !proctree.Supported {
		return r, ErrUnsupported
	}
	if err := r.cfg.resolve(ctx, cmd, opts); err != nil {
		return r, err
	}
	r.streams.Idle = r.cfg.idle > 0
	if r.cfg.redact != nil {
		r.args = shortened(cmd.Args)
	}
	if err := r.beginObserving(); err != nil {
		return r, err
	}
	r.fake = seam.From(ctx)
	if err := r.checkGuard(); err != nil {
		return r, err
	}
	attr, err := r.attributes()
	if err != nil {
		return r, err
	}
	r.setDeadline(now)
	if err = r.prepare(attr); err != nil {
		r.abandonTerminal()
		r.streams.CloseAll()
		r.closeWaiting()
		r.removeLeaf()
		r.result.GuardRestarts = r.ward.End()
		engine.Spend(cmd)
		return r, err
	}
	r.result.Times.Start = r.lap()
	r.observed.started(r.result.PID)
	return r, nil
}

// prepare does what has to be undone when it fails.
//
// All of it is on the caller's thread: one that is locked to it passes on its namespaces, its credentials and its
// place in the scheduler.
func (r *run) prepare(attr *syscall.SysProcAttr) (err error) {
	r.marks.Begin()
	if err = r.takeTurn(); err != nil {
		return err
	}
	if err = r.Open(); err != nil {
		return err
	}
	if r.ctx.Done() != nil {
		r.unwatch = context.AfterFunc(r.ctx, r.Wake)
	}
	r.watchForce()
	r.enlist()
	if err = r.examine(); err != nil {
		return err
	}
	if err = r.openStreams(); err != nil {
		return err
	}
	if err = r.reserveLeft(); err != nil {
		return err
	}
	if r.fake != nil {
		return r.stage()
	}
	if err = r.takeGuard(); err != nil {
		return err
	}
	if err = r.contain(); err != nil {
		return err
	}
	return r.spawn(attr)
}

// takeTurn waits until not too many others are being started. Thousands at once take seconds.
func (r *run) takeTurn() error {
	for {
		r.marks.TakeTurn(r.ctx.Done(), r.deadline)
		if r.result.Cause = r.reason(time.Now()); r.result.Cause != CauseNone {
			return r.causeError()
		}
		if r.marks.HasTurn() {
			return nil
		}
	}
}

func (r *run) setDeadline(now time.Time) {
	if r.cfg.timeout > 0 {
		r.deadline = now.Add(r.cfg.timeout)
	}
	if d, ok := r.ctx.Deadline(); ok && (r.deadline.IsZero() || d.Before(r.deadline)) {
		r.deadline = d
	}
}

// examine touches what the start will touch, so that a file system that does not answer is met by
// the deadline and not by a child that holds up the whole Go runtime.
func (r *run) examine() error {
	if r.cmd.Err != nil || r.cmd.Path == "" || r.fake != nil {
		return nil //nolint:nilerr // Start says so, and touches nothing
	}
	var look preflight.Look // not of the run, which the look that does not end would keep
	look.Begin(r.cmd, r.Wake)
	for !look.Done() && !look.Await() {
		r.marks.EndTurn() // it may take long, and others have better files
		if r.result.Cause = r.reason(time.Now()); r.result.Cause != CauseNone {
			r.result.Abandoned = append(r.result.Abandoned, AbandonedStart)
			return join(r.causeError(), ErrStartStalled)
		}
		if _, err := r.Poller.Wait(r.nextBound()); err != nil {
			return err
		}
	}
	if err := r.takeTurn(); err != nil {
		return err
	}
	r.missing = look.Missing()
	if look.BadDir() && !proctree.ChangesUser(r.cmd.SysProcAttr) {
		if err := preflight.DirError(r.cmd.Dir); err != nil {
			return join(ErrBadDir, err)
		}
	}
	return nil
}

// release closes what StdinPipe and its kin opened and ends the goroutine that watches the context of
// exec.CommandContext, as Wait of os/exec does. The leader was reaped before, so that all else in it
// is void.
func (r *run) release() {
	if r.actor != nil {
		r.releaseActor()
		return
	}
	if r.Exited && r.own != nil {
		own := r.own
		r.own = nil
		own.Process = engine.Released() // the number may be somebody else's by now
		if !r.pipesOut {
			_ = own.Wait()
			return
		}
		// A process that lives on can hold one of the pipes that this closes.
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			_ = own.Wait()
		}()
		late := time.NewTimer(r.cfg.drain)
		defer late.Stop()
		select {
		case <-closed:
		case <-late.C:
			r.result.Abandoned = append(r.result.Abandoned, AbandonedPipe)
		}
	}
}

// askCommandContext asks the context of exec.CommandContext, which only os/exec can reach, whether it
// was canceled or its deadline passed: Start says so before it does anything. Should it say neither,
// the path makes it fail. It closes the command's pipes, so it comes after release.
func (r *run) askCommandContext() {
	if r.result.Cause != CauseCanceled || !r.cmdCanceled.Load() || r.ctxErr != nil {
		return
	}
	asking := *r.cmd
	asking.Process, asking.ProcessState, asking.Err = nil, nil, nil
	asking.Stdin, asking.Stdout, asking.Stderr, asking.ExtraFiles = nil, nil, nil, nil
	asking.Path = "/dev/null/" // below a file that is no directory
	if errors.Is(asking.Start(), context.DeadlineExceeded) {
		r.result.Cause = CauseTimeout
	}
}

// spawn starts the command, from a fresh copy of it at each try, and begins to watch it.
func (r *run) spawn(attr *syscall.SysProcAttr) error {
	defer r.streams.CloseChildEnds()
	var until time.Time // of the last try
	for delay := firstRetryDelay; ; delay = min(2*delay, lastRetryDelay) {
		if err := r.takeTurn(); err != nil { // of another try, whose first has given it back
			return err
		}
		err, ours := r.try(attr)
		if ours != nil {
			return ours
		}
		if err == nil {
			break
		}
		if again, err := r.refused(); err != nil {
			return err
		} else if again {
			continue
		}
		now := time.Now()
		if until.IsZero() {
			until = now.Add(r.cfg.startRetry)
		}
		if !engine.Transient(err) || !now.Before(until) || !engine.FilesOpen(r.cmd) {
			return r.startError(err)
		}
		r.result.StartRetries++
		r.observed.retried(err)
		for again := engine.Earlier(now.Add(delay), until); time.Now().Before(again); {
			if r.result.Cause = r.reason(time.Now()); r.result.Cause != CauseNone {
				return join(r.causeError(), r.startError(err))
			}
			if _, err := r.Poller.Wait(engine.Earlier(again, r.nextBound())); err != nil {
				return err
			}
		}
	}
	r.streams.LastOutput = time.Now()
	r.forget()
	r.watchStops()
	r.streams.Feed(r.cmd.Stdin)
	return nil
}

// copyCmd returns the command that os/exec is to start: the caller's, with our pipes, a session of
// its own, and a Cancel that does nothing but wake us, so that both contexts lead to one ladder.
func (r *run) copyCmd(attr *syscall.SysProcAttr) *exec.Cmd {
	own := *r.cmd
	own.SysProcAttr = attr
	own.Env = r.marks.Environ(r.cmd)
	r.observed.addEnv(&own)
	own.WaitDelay = 0
	if own.Cancel != nil {
		own.Cancel = func() error {
			r.cmdCanceled.Store(true)
			r.Poller.Wake()
			return os.ErrProcessDone // which makes Wait say nothing about it
		}
	}
	own.Stdin = r.streams.Each[0].ChildReader(own.Stdin)
	own.Stdout = r.streams.Each[1].ChildWriter(own.Stdout)
	own.Stderr = r.streams.Each[2].ChildWriter(own.Stderr)
	if r.merged() {
		own.Stderr = own.Stdout
	}
	return &own
}

// try is one try. The first error is what os/exec says; the second is ours: the command was not started, or
// killed before it ran, and is not to be tried again.
func (r *run) try(attr *syscall.SysProcAttr) (err, ours error) {
	r.own = r.copyCmd(attr)
	if err := r.sealFDs(); err != nil {
		return nil, err
	}
	if err := r.announce(); err != nil {
		return nil, err
	}
	if err, ours := r.startOwn(); err != nil || ours != nil {
		return err, ours
	}
	r.plant()
	return nil, nil
}

// plant makes what was started the leader of the run's tree.
func (r *run) plant() {
	r.process = r.own.Process
	r.cmd.Process = r.process
	r.result.PID = r.process.Pid
	r.Tree.Init(proctree.Origin{
		Process: r.process, Started: r.marks.Started(), Mark: &r.marks, InSession: r.terminal != nil,
		Leaf: r.Leaf, Leaving: r.UnwatchMember,
	})
	r.leaderKnown()
	r.Tree.MarkBorn()
	r.result.Tracks = Tracks(r.Tree.Tracks())
	r.result.Containment = r.rung()
}

// startOwn starts the copy, and returns what try does.
func (r *run) startOwn() (err, ours error) {
	passed, withheld := r.passedFDs()
	if len(passed)+len(withheld) > 0 {
		all, opened, err := fdtable.Pass(passed, withheld, r.cmd.ExtraFiles)
		if err != nil {
			return nil, &ConfigError{Name: "WithFDs", Reason: err.Error()}
		}
		defer fdtable.CloseAll(opened)
		r.own.ExtraFiles = all
	}
	if r.Leaf != nil {
		attr := *r.own.SysProcAttr // a copy: another try may be without
		r.Leaf.Attach(&attr)
		r.own.SysProcAttr = &attr
	}
	if r.stopsFirst() {
		return r.startStopped()
	}
	if err := r.marks.Start(r.own.Start); err != nil {
		return err, nil
	}
	r.marks.Limit(r.own.Process.Pid)
	if err := r.setLimits(); err != nil {
		r.limitErr = join(ErrLimits, err)
	}
	return nil, nil
}

// forget lets go of what only the start needs: thousands of commands may be asleep at once.
func (r *run) forget() {
	r.own.Env, r.own.SysProcAttr, r.own.ExtraFiles = nil, nil, nil
	r.pipesOut = engine.HasPipes(r.own)
	r.own.Stdin, r.own.Stdout, r.own.Stderr = nil, nil, nil
	if r.own.Cancel == nil && !r.pipesOut { // CommandContext sets Cancel
		r.own = nil // there is nothing to release
	}
}

// watchExit makes step see the leader's exit: through its pidfd, or, where that is -1, through a
// goroutine that blocks a thread in waitid until the exit.
func (r *run) watchExit(pidfd int) {
	// A short command is over by the time its parent has come back from vfork(2), and nothing has to be watched.
	if r.Exited = pidfd >= 0 && r.Tree.LeaderExited(); r.Exited {
		return
	}
	if pidfd >= 0 && r.WatchLeader(pidfd) {
		r.exitFD = pidfd
		return
	}
	go func() {
		r.Tree.WaitLeader()
		r.exitSeen.Store(true)
		r.Poller.Wake()
	}()
}

// merged reports whether both outputs go through one pipe: CombinedOutput, or the same Writer twice,
// which is then never called by two goroutines at once.
func (r *run) merged() bool {
	return r.cfg.merge || r.cmd.Stdout != nil && sameWriter(r.cmd.Stdout, r.cmd.Stderr)
}

// sameWriter compares two writers, of types that may not be comparable.
func sameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a == b
}
