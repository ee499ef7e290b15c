package safeexec

import (
	"time"

	"github.com/seed841d8200/safeexec/internal/guard"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

type guardOption struct{}

func (guardOption) apply(c *config) { c.guard = true }

// WithGuard has the command's tree ended also when this process is gone before the run is over: killed, out of
// memory, by os.Exit or a panic, or because it has executed another program. A helper process, started with the first
// such run, then ends each tree by the same ladder: the terminating signal, the grace period, SIGKILL; within these
// and the time for looks at the tree that [Bound] counts. It finds a tree by what a run finds it by, and kills the
// run's cgroup if there is one.
//
// The program calls Init of package guard first in main. Otherwise the option is a *[ConfigError], and so it is except
// on Linux. A helper that can not be started is [ErrGuard], and nothing was started. Result.GuardRestarts says
// whether there was a time without.
//
// What [BackgroundLeave] has left alive is not guarded, nor is a terminal given back, see [WithTerminal].
func WithGuard() Option { return guardOption{} }

// checkGuard asks whether there can be a guard. A fake needs none.
func (r *run) checkGuard() error {
	switch {
	case !r.cfg.guard, r.fake != nil:
		return nil
	case !proctree.Enumerates:
		return &ConfigError{Name: "WithGuard", Reason: "is for Linux"}
	case !guard.Available():
		return &ConfigError{Name: "WithGuard", Reason: "needs guard.Init to be called first in main"}
	}
	return nil
}

// takeGuard has the run guarded from its start on.
func (r *run) takeGuard() error {
	if !r.cfg.guard {
		return nil
	}
	var err error
	r.ward, err = guard.Take(r.ctx.Done(), r.deadline)
	if r.result.Cause = r.reason(time.Now()); r.result.Cause != CauseNone {
		return r.causeError()
	}
	if err != nil {
		return join(ErrGuard, err)
	}
	return nil
}

// announce tells the guard of what is about to be started.
func (r *run) announce() error {
	if r.ward == nil {
		return nil
	}
	run := guard.Run{
		Program: r.result.Program,
		Trace:   r.marks.Foresee(),
		Ladder:  guard.Ladder{Signal: int(r.cfg.termSignal), Grace: r.cfg.grace, Kill: r.cfg.kill},
	}
	if r.Leaf != nil {
		run.Cgroup = r.Leaf.Dir()
	}
	if err := r.ward.Set(run); err != nil {
		return join(ErrGuard, err)
	}
	return nil
}

// leaderKnown tells the guard who the leader is.
func (r *run) leaderKnown() {
	if r.ward == nil {
		return
	}
	if leader := proctree.Inspect(r.result.PID); leader.Start != 0 { // its PID alone may be another's by then
		r.ward.Started(r.marks.Trace(leader))
	}
}
