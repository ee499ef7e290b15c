package engine

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/guard"
	"github.com/seed841d8200/safeexec/internal/preflight"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
	"github.com/seed841d8200/safeexec/internal/terminal"
)

// A starter starts the command of a run.
type starter struct{ *Run }

// The started is what the start leaves.
type started struct {
	process  *os.Process
	own      *exec.Cmd // the copy of cmd that is started; nil once there is nothing to release
	exitFD   int       // the leader's pidfd while the poller watches it, else -1
	pipesOut bool      // the caller may be at a pipe that Conclude closes
	marks    proctree.Mark
	noCgroup error              // why there is none, where the command is stopped instead
	terminal *terminal.Terminal // lent to the command; else nil
	stops    chan struct{}      // closed by watchStops at its end
	ward     *guard.Ward        // nil without a guard
	places   int                // reserved for pipes that may be left
	unwatch  func() bool
	unforce  []func() bool // of the contexts that end the grace period

	fake  seam.Fake // of a test, which answers in place of the kernel; else nil
	actor *actor    // in place of the process, for a test; else nil
}

// prepare does what has to be undone when it fails.
//
// All of it is on the caller's thread: one that is locked to it passes on its namespaces, its credentials and its
// place in the scheduler.
func (r starter) prepare(attr *syscall.SysProcAttr) (err error) {
	r.marks.Begin()
	if err = (guarding{r}).take(); err != nil {
		return err
	}
	if err = r.takeTurn(); err != nil {
		return err
	}
	if err = r.Open(); err != nil {
		return err
	}
	r.wake = r.Wake
	if r.ctx.Done() != nil {
		r.unwatch = context.AfterFunc(r.ctx, r.Wake)
	}
	for _, ctx := range r.cfg.Forces {
		r.unforce = append(r.unforce, context.AfterFunc(ctx, r.Wake))
	}
	enlist(r.Run)
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
		return casting{r}.stage()
	}
	if err = r.contain(); err != nil {
		return err
	}
	return r.spawn(attr)
}

// mustEnd returns ErrCause if the run must end before it is started.
func (r starter) mustEnd() error {
	if r.Facts.Cause = r.reason(time.Now()); r.Facts.Cause == CauseNone {
		return nil
	}
	r.noteCause()
	return ErrCause
}

// takeTurn waits while too many others are being started. Thousands at once take seconds.
func (r starter) takeTurn() error {
	for {
		r.marks.TakeTurn(r.ctx.Done(), r.deadline)
		if err := r.mustEnd(); err != nil {
			return err
		}
		if r.marks.HasTurn() {
			return nil
		}
	}
}

// examine touches what the start will touch, so that the deadline counts for a file system that does not answer. A
// child that touched it first would hold up the whole Go runtime.
func (r starter) examine() error {
	if r.cmd.Err != nil || r.cmd.Path == "" || r.fake != nil {
		return nil //nolint:nilerr // Start says so, and touches nothing
	}
	var look preflight.Look // not in the Run, which a look that never ends would keep alive
	look.Begin(r.cmd, r.Wake)
	for !look.Done() && !look.Await() {
		r.marks.EndTurn() // other starts need not wait for this
		if err := r.stall(); err != nil {
			return err
		}
	}
	if err := r.takeTurn(); err != nil {
		return err
	}
	r.Facts.Missing = look.Missing()
	if look.BadDir() && !proctree.ChangesUser(r.cmd.SysProcAttr) {
		if err := preflight.DirError(r.cmd.Dir); err != nil {
			return Errors{ErrBadDir, err}
		}
	}
	return nil
}

// stall waits for what keeps the start waiting. The error says that the run has to end, and what is left behind.
func (r starter) stall() error {
	if cause := r.mustEnd(); cause != nil {
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedStart)
		return Errors{cause, ErrStartStalled}
	}
	_, err := r.Poller.Wait(r.nextBound())
	return err
}

// openStreams makes the pipes. At the first error the caller closes what there is.
func (r starter) openStreams() error {
	if err := r.openPTY(); err != nil {
		return err
	}
	if r.cmd.Stdin != nil && !stdio.Direct(r.cmd.Stdin) {
		if err := r.Streams.OpenInput(); err != nil {
			return err
		}
	}
	if err := r.openOutput(1, r.cmd.Stdout); err != nil {
		return err
	}
	if r.Merged() {
		return nil
	}
	return r.openOutput(2, r.cmd.Stderr)
}

func (r starter) openOutput(fd int, w io.Writer) error {
	if stdio.Direct(w) {
		return nil
	}
	s := &r.Streams.Each[fd]
	if err := r.Streams.OpenOutput(fd); err != nil {
		return err
	}
	if w == nil {
		s.Capture(int(r.cfg.OutputLimit))
		if f := r.host.Tee(fd); f != nil {
			s.Deliver(f, r.Wake)
		}
	} else {
		s.Stream(w, r.host.LastLine(w), r.Wake)
	}
	if r.cfg.OverflowStops {
		s.Out.StopAt(r.cfg.OutputLimit)
	}
	return nil
}

// reserveLeft takes the places that the pipes of this run may need. It comes before the start: a command whose pipes
// found no place could only be killed.
func (r starter) reserveLeft() error {
	if r.cfg.Background != BackgroundLeave {
		return nil
	}
	n := 0
	for i := range r.Streams.Each {
		if r.Streams.Each[i].Kind.IsOutput() {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	ok, err := leftPipes.Reserve(n)
	switch {
	case err != nil:
		return Errors{ErrTooManyLeft, err}
	case !ok:
		return ErrTooManyLeft
	}
	r.places = n
	return nil
}

// ETXTBSY happens where another goroutine forks while this process writes a program (go.dev/issue/22315).
const (
	firstRetryDelay = time.Millisecond
	lastRetryDelay  = 128 * time.Millisecond
)

// spawn starts the command, from a fresh copy at each try, and begins to watch it.
func (r starter) spawn(attr *syscall.SysProcAttr) error {
	defer r.Streams.CloseChildEnds()
	var until time.Time // of the last try
	for delay := firstRetryDelay; ; delay = min(2*delay, lastRetryDelay) {
		if err := r.takeTurn(); err != nil { // the first try has given its turn back
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
			until = now.Add(r.cfg.StartRetry)
		}
		if !stdio.Transient(err) || !now.Before(until) || !stdio.FilesOpen(r.cmd) {
			return r.startError(err)
		}
		r.Facts.StartRetries++
		r.host.Retried(err)
		for again := ladder.Earlier(now.Add(delay), until); time.Now().Before(again); {
			if cause := r.mustEnd(); cause != nil {
				return Errors{cause, r.startError(err)}
			}
			if _, err := r.Poller.Wait(ladder.Earlier(again, r.nextBound())); err != nil {
				return err
			}
		}
	}
	r.Streams.LastOutput = time.Now()
	r.forget()
	tty(r).watchStops()
	r.Streams.Feed(r.cmd.Stdin)
	return nil
}

// startError returns what the kernel or os/exec said about a start. The context of exec.CommandContext may have been
// done before.
func (r starter) startError(err error) error {
	if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return &StartError{err}
	}
	r.Facts.Cause = CauseCanceled
	if errors.Is(err, context.DeadlineExceeded) {
		r.Facts.Cause = CauseTimeout
	}
	r.noteCause()
	return Errors{ErrCause, err}
}

// copyCmd returns the command that os/exec starts: the caller's, with our pipes, a session of its own, and a Cancel
// that only wakes the run, so that both contexts lead to one ladder.
func (r starter) copyCmd(attr *syscall.SysProcAttr) *exec.Cmd {
	own := *r.cmd
	own.SysProcAttr = attr
	own.Env = r.marks.Environ(r.cmd)
	r.host.AddEnv(&own)
	own.WaitDelay = 0
	if own.Cancel != nil {
		run := r.Run
		own.Cancel = func() error {
			run.cmdCanceled.Store(true)
			run.Wake()
			return os.ErrProcessDone // or Wait would return it
		}
	}
	own.Stdin = r.Streams.Each[0].ChildReader(own.Stdin)
	own.Stdout = r.Streams.Each[1].ChildWriter(own.Stdout)
	own.Stderr = r.Streams.Each[2].ChildWriter(own.Stderr)
	if r.Merged() {
		own.Stderr = own.Stdout
	}
	return &own
}

// try is one try. The first error is that of os/exec. The second is ours: the command was not started, or killed before
// it ran, and is not tried again.
func (r starter) try(attr *syscall.SysProcAttr) (err, ours error) {
	r.own = r.copyCmd(attr)
	if err := r.sealFDs(); err != nil {
		return nil, err
	}
	if err := (guarding{r}).announce(); err != nil {
		return nil, err
	}
	if err, ours := r.startOwn(); err != nil || ours != nil {
		return err, ours
	}
	r.plant()
	return nil, nil
}

// plant makes what was started the leader of the run's tree.
func (r starter) plant() {
	r.process = r.own.Process
	r.cmd.Process = r.process
	r.Facts.PID = r.process.Pid
	r.Tree.Init(proctree.Origin{
		Process: r.process, Started: r.marks.Started(), Mark: &r.marks, InSession: r.terminal != nil,
		Leaf: r.Leaf, Leaving: r.UnwatchMember,
	})
	guarding{r}.leaderKnown()
	r.Tree.MarkBorn()
	r.Facts.Tracks = r.Tree.Tracks()
	r.Facts.Containment = r.rung()
}

// startOwn starts the copy, and returns what try does.
func (r starter) startOwn() (err, ours error) {
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
		r.Facts.LimitErr = err
	}
	return nil, nil
}

// forget drops what only the start needs: thousands of commands may sleep at once.
func (r starter) forget() {
	r.own.Env, r.own.SysProcAttr, r.own.ExtraFiles = nil, nil, nil
	r.pipesOut = stdio.HasPipes(r.own)
	r.own.Stdin, r.own.Stdout, r.own.Stderr = nil, nil, nil
	if r.own.Cancel == nil && !r.pipesOut { // CommandContext sets Cancel
		r.own = nil // there is nothing to release
	}
}

// setLimits sets the limits of the options on our unreaped child.
func (r starter) setLimits() error {
	pid := r.own.Process.Pid
	for _, l := range r.cfg.Limits {
		if err := proctree.SetLimit(pid, resources[l.Resource], l.N); err != nil {
			return err
		}
	}
	if r.cfg.NiceSet {
		return proctree.SetNice(pid, r.cfg.Nice)
	}
	return nil
}

// Merged reports whether both outputs go through one pipe: for CombinedOutput, or where both have the same Writer,
// which two goroutines would call at once otherwise.
func (r *Run) Merged() bool {
	return r.cfg.Merge || r.cmd.Stdout != nil && SameWriter(r.cmd.Stdout, r.cmd.Stderr)
}

// SameWriter compares two writers, of types that may not be comparable.
func SameWriter(a, b io.Writer) (same bool) {
	defer func() { _ = recover() }()
	return a == b
}
