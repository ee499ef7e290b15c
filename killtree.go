package safeexec

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// A Target is a process that [KillTree] ends with its tree: a [ProcessInfo], also within a [Holder] or a
// [ReportProcess], or what [OSProcess] returns.
type Target interface {
	hold() (*engine.Root, error)
	identify() ProcessInfo // as far as it is known without a look
}

func (p ProcessInfo) identify() ProcessInfo { return p }

func (p ProcessInfo) hold() (*engine.Root, error) {
	if now := engine.BootID(); p.BootID != "" && now != "" && p.BootID != now {
		return nil, engine.ErrNoProcess
	}
	return engine.Hold(p.PID, p.StartTicks)
}

// OSProcess makes a process that was started with os/exec or found by [os.FindProcess] a [Target]. It
// means that process for good, other than its number.
func OSProcess(p *os.Process) Target { return osProcess{p} }

type osProcess struct{ process *os.Process }

func (p osProcess) identify() ProcessInfo { return ProcessInfo{PID: p.process.Pid} }

func (p osProcess) hold() (*engine.Root, error) {
	return engine.HoldProcess(p.process)
}

// A TreeResult is what [KillTree] did. It is filled on every path, also beside an error.
type TreeResult struct {
	Root      ProcessInfo   // the target; as the caller has named it, where it was not found
	Killed    []ProcessInfo // that were signaled and are gone, the oldest first, as in [Result]; the target among them
	Survivors []Survivor    // that are alive, the oldest first

	Tracks Tracks // how the processes of the tree were told from others
	Hidden int    // as in Result
	Took   time.Duration
}

// A Survivor is a process of a tree that was to be ended and is alive.
type Survivor struct {
	ProcessInfo
	// Err is why it could not be signaled: EPERM, for one of another user. It is nil if the signals were
	// sent: the process is in uninterruptible sleep, or there was no time for SIGKILL.
	Err error
}

// KillTree ends a process that another program started, and all its descendants, as a run is ended:
// it sends [WithTermSignal] and SIGCONT, waits for [WithGracePeriod], stops the survivors, so that none
// gets away, sends SIGKILL, and waits for [WithKillTimeout] at most. It ignores other options, so that
// house rules can be passed on. It takes no longer than the two times together and the looks for the
// tree: some microseconds for each process of the machine, several times before the first signal and once
// after each, and up to 50 ms until a deadline of ctx is believed. That deadline comes out of the grace
// period first, so that SIGKILL is sent in any case; when ctx is canceled KillTree sends nothing more,
// and the error names the survivors.
//
// The target is a process and not a number: with the StartTicks of a [ProcessInfo] it is the process that
// began then, in the boot of its BootID if it has one; with zero it is the one that has the number now; [OSProcess]
// means its process. KillTree does not reap it: its parent does, cmd.Wait for a child of ours. A zombie is dead.
//
// KillTree finds what each process of the tree has started, downwards from the target, as long as each
// parent lives; the session, if the target leads one; orphans in its process group, if it leads one; and
// the run, if it leads one that this process started with this package and that has not ended. It marks
// each process that it finds as with [TrackLimit], so that none born from then on is lost. It does not find
// a daemon that had left the session, and lost its parent, before; not even if another program started it
// with this package, since the runs of other programs cannot be told apart. A [Run] would have marked it at
// birth.
//
// KillTree signals no process outside the tree, but for one that it cannot tell from it: where the target leads
// a process group and no session, an orphan in the group may be one that another command of the same shell's job
// has left, as x of a | sh -c '(x &); exec b', if a is the target. The error is
//
//   - [ErrNoProcess] if the target never was, was reaped already or began at another time, which is
//     known without a look for its tree, or if it is dead and no process of its tree is found;
//   - [ErrProtected] for the first process, this process and its ancestors, any other tree that this
//     process is in, and threads of the kernel;
//   - [ErrSurvivors] with an errno of [Survivor.Err], if there are any, or [ErrTreeUnseen];
//   - [ErrTimeout] or [ErrCanceled] if ctx ended it before its time, or before anything was sent;
//   - the kernel's, for want of descriptors perhaps, if KillTree could not identify the target or tell whether
//     this process is in its tree: nothing was signaled;
//   - a [*ConfigError] for options that cannot be used, [ErrUnsupported] except on Linux.
//
// Several goroutines may call it at once, even for one target: each call reports what it signaled.
func KillTree(ctx context.Context, target Target, opts ...Option) (TreeResult, error) {
	began := time.Now()
	k := &kill{ctx: ctx, cfg: defaults()}
	errs := k.run(target, opts)
	k.result.Took = time.Since(began)
	if len(errs) == 0 {
		return k.result, nil
	}
	return k.result, &Error{Op: "killtree", Program: k.result.Root.Name, PID: k.result.Root.PID, errs: errs}
}

// A kill is one call of KillTree. All of it belongs to the calling goroutine.
type kill struct {
	ctx    context.Context
	cfg    config
	result TreeResult
}

func (k *kill) run(target Target, opts []Option) []error {
	if !engine.Enumerates {
		return []error{ErrUnsupported}
	}
	if err := k.check(target, opts); err != nil {
		return flatten(err)
	}
	if fake, ok := seam.From(k.ctx).(seam.Killer); ok {
		result, errs := fake.KillTree(target.identify(), k.cfg.settings())
		k.result, _ = result.(TreeResult)
		return slices.Concat(errs, k.survivorErrors())
	}
	root, err := target.hold()
	if err != nil {
		return refusal(err)
	}
	defer root.Close()
	k.result.Root = info(root.Process)
	end, err := engine.KillTree(k.ctx, root, k.cfg.Rungs())
	k.result.Tracks = Tracks(end.Tracks)
	if err != nil {
		return refusal(err)
	}
	return k.takeStock(end)
}

func (k *kill) check(target Target, opts []Option) error {
	bundle(opts).apply(&k.cfg)
	switch {
	case target == nil:
		return &ConfigError{Name: "target", Reason: "is nil"}
	case target == OSProcess(nil):
		return &ConfigError{Name: "OSProcess", Reason: "is nil"}
	}
	k.result.Root = target.identify() // as far as the caller knows it
	if k.ctx == nil {
		return &ConfigError{Name: "ctx", Reason: "is nil"}
	}
	if err := k.cfg.checkLadder(); err != nil {
		return err
	}
	if errs := k.contextErrors(); errs != nil {
		return join(errs...)
	}
	return nil
}

// takeStock records which processes are gone and which are alive, and returns what is wrong with that.
func (k *kill) takeStock(end engine.TreeEnd) []error {
	k.result.Hidden = end.Hidden
	k.result.Killed = infos(end.Killed)
	for _, s := range end.Survivors {
		k.result.Survivors = append(k.result.Survivors, Survivor{info(s.Process), s.Err})
	}
	if len(end.Survivors) == 0 && end.Sure {
		return nil
	}
	errs := append(k.contextErrors(), k.survivorErrors()...)
	if !end.Sure {
		errs = append(errs, ErrTreeUnseen)
	}
	return errs
}

// survivorErrors returns what the survivors come to.
func (k *kill) survivorErrors() (errs []error) {
	for _, s := range k.result.Survivors {
		for _, err := range []error{ErrSurvivors, s.Err} {
			if err != nil && !slices.Contains(errs, err) {
				errs = append(errs, err)
			}
		}
	}
	return errs
}

// contextErrors returns what the context says, if it is done. Where its deadline has passed its own timer
// may be a moment behind.
func (k *kill) contextErrors() []error {
	if d, ok := k.ctx.Deadline(); ok && !time.Now().Before(d) {
		late := time.NewTimer(engine.TimerSlack)
		defer late.Stop()
		select {
		case <-k.ctx.Done():
		case <-late.C:
		}
	}
	err := k.ctx.Err()
	if err == nil {
		return nil
	}
	errs := []error{ErrCanceled, err}
	if errors.Is(err, context.DeadlineExceeded) {
		errs[0] = ErrTimeout
	}
	if cause := context.Cause(k.ctx); cause != err { //nolint:errorlint // the very value
		errs = append(errs, cause)
	}
	return errs
}

// refusal names the reason why nothing was signaled.
func refusal(err error) []error {
	if _, ok := errors.AsType[engine.ProtectedError](err); ok {
		return []error{ErrProtected, err}
	}
	if errors.Is(err, engine.ErrNoProcess) {
		return []error{ErrNoProcess}
	}
	return []error{err}
}
