package engine

import (
	"errors"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/guard"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A guarding tells the guard of a run.
type guarding struct{ starter }

// check reports why there can be no guard. A fake needs none.
func (r guarding) check() error {
	switch {
	case !r.cfg.Guard, r.fake != nil:
		return nil
	case !proctree.Enumerates:
		return &ConfigError{Name: "WithGuard", Reason: "is for Linux"}
	case !guard.Available():
		return &ConfigError{Name: "WithGuard", Reason: "needs guard.Init to be called first in main"}
	}
	return nil
}

// take gets a guard for the run. It comes before the run's turn to be started: the guard's own start may take long.
func (r guarding) take() error {
	if !r.cfg.Guard || r.fake != nil {
		return nil
	}
	var err error
	r.ward, err = guard.Take(r.ctx.Done(), r.deadline)
	if cause := r.mustEnd(); cause != nil {
		return cause
	}
	if err != nil {
		return Errors{ErrGuard, err}
	}
	return nil
}

// announce tells the guard what is about to be started.
func (r guarding) announce() error {
	if r.ward == nil {
		return nil
	}
	run := guard.Run{
		Program: r.Facts.Program,
		Trace:   r.marks.Foresee(),
		Ladder:  guard.Ladder{Signal: int(r.cfg.TermSignal), Grace: r.cfg.Grace, Kill: r.cfg.Kill},
	}
	if r.Leaf != nil {
		run.Cgroup = r.Leaf.Dir()
	}
	if err := r.ward.Set(run); err != nil {
		return Errors{ErrGuard, err}
	}
	return nil
}

// leaderKnown tells the guard the leader's identity.
func (r guarding) leaderKnown() {
	if r.ward == nil {
		return
	}
	if trace := r.Tree.Trace(); trace.Start != 0 { // its PID alone may be another's by then
		r.ward.Started(trace)
	}
}

var errNoMark = errors.New("the command cannot be marked")

// contain makes the cgroup that the command is born in. Without one, if that is allowed, the command will be stopped
// before it runs.
func (r starter) contain() error {
	c := r.cfg.Containment
	if c == nil || c.Rung == ContainmentBest {
		return nil
	}
	leaf, err := cgroup.Make(c.Parent)
	if err == nil {
		r.Leaf = leaf
		if err = leaf.Limit(c.Limits); err == nil {
			return nil
		}
	}
	return r.withoutCgroup(err)
}

// withoutCgroup goes on without a cgroup, for the given reason, if that is allowed.
func (r starter) withoutCgroup(reason error) error {
	holdings(r).removeLeaf()
	if r.cfg.Containment.Rung == ContainmentExact {
		r.noCgroup = reason
		return nil
	}
	return containmentError(reason)
}

// refused reports whether a start that failed is tried again without the cgroup, which was the reason. The error says
// that this is not allowed.
func (r starter) refused() (again bool, err error) {
	if r.Leaf == nil {
		return false, nil
	}
	reason := r.Leaf.Refusal()
	if reason == nil {
		return false, nil
	}
	if err := r.withoutCgroup(reason); err != nil {
		return false, err
	}
	if !stdio.FilesOpen(r.cmd) {
		return false, containmentError(reason)
	}
	return true, nil
}

// stopsFirst reports whether the command is stopped before its first instruction.
func (r starter) stopsFirst() bool { return r.cfg.Proof || r.noCgroup != nil }

// rung returns what is in force, once the command is started.
func (r starter) rung() Containment {
	switch {
	case r.Leaf != nil:
		return ContainmentCgroup
	case r.noCgroup != nil:
		return ContainmentExact
	}
	return ContainmentBest
}

// unstoppable returns why the command cannot be stopped or marked, as a ContainmentError if it is stopped for want of a
// cgroup.
func (r starter) unstoppable(reasons ...error) error {
	if r.noCgroup == nil {
		return Errors(reasons)
	}
	return containmentError(append(reasons, r.noCgroup)...)
}
