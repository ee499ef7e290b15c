package safeexec

import (
	"fmt"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// SetSubreaper has this process adopt the orphans among all its descendants, as the first process of
// a container does anyway, PR_SET_CHILD_SUBREAPER(2const). It is of the whole process, lasts until its
// end, is not inherited, and is never set unless asked for.
//
// From then on a run, or [KillTree], that ends reaps those of its tree that became children of this
// process and died: each by its PID once it is known to be of that tree, never by a wait for any
// child, so that what os/exec or another run has started keeps its status. No zombie of the tree is left
// then, survivors excepted. [TrackAdoption] in Result.Tracks says so. While a run goes on its dead
// orphans wait for its end.
//
// Everything else that is orphaned is for the caller to reap: the descendants of commands that were
// not started by this package, and those that a run left, as [BackgroundLeave] does. As long as
// nobody does, they are zombies, each with its PID. Beside code that reaps whatever dies, by
// wait4(2) of -1 or by ignoring SIGCHLD, all of this works as well, but a command's status may then
// be [ErrStatusUnknown]: whoever reaps it first has it.
//
// It may be called at any time, any number of times. The error is [ErrUnsupported] except on Linux.
func SetSubreaper() error {
	if !proctree.Enumerates {
		return ErrUnsupported
	}
	if err := proctree.SetSubreaper(); err != nil {
		return fmt.Errorf("safeexec: prctl PR_SET_CHILD_SUBREAPER: %w", err)
	}
	return nil
}
