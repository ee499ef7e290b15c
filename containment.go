package safeexec

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/execstop"
)

// A Containment says how surely all that descends from a command is found and ended. It is asked for
// by [WithContainment], and what was in force is in the [Result].
type Containment int

// The rungs of containment.
const (
	// ContainmentBest tells the processes of the tree by what they inherit, and can be had for every
	// command. What is started in the first microseconds may lack the surest mark, and a program that
	// is out to escape can shed all of them.
	ContainmentBest Containment = iota
	// ContainmentExact leaves no moment before the command is held: it is held in a cgroup if that can
	// be had, with all that ContainmentCgroup promises. Otherwise it is stopped before its first
	// instruction, at the price that [WithFDProof] names, and marked by the soft limit RLIMIT_RTTIME,
	// which whatever it starts inherits, however it daemonizes and whatever environment it has. That
	// finds all that do not change this limit. It does not hold a program that is out to escape:
	// setrlimit(2) needs no privilege for it. Result.Containment says which of the two was in force.
	ContainmentExact
	// ContainmentCgroup holds it in a cgroup of its own. There is no way out of it for a command that
	// may not write to another cgroup, see [WithContainment].
	ContainmentCgroup
)

var containments = [...]string{"best", "exact", "cgroup"}

// String returns the rung's name.
func (c Containment) String() string {
	if c < 0 || int(c) >= len(containments) {
		return fmt.Sprintf("Containment(%d)", int(c))
	}
	return containments[c]
}

// containment is what the options say of it.
type containment struct {
	rung   Containment
	parent string
	limits cgroup.Limits

	memorySet, pidsSet, cpuSet bool
}

type (
	containmentOption  Containment
	cgroupParentOption string
	memoryMaxOption    int64
	pidsMaxOption      int
	cpuMaxOption       float64
)

func (o containmentOption) apply(c *config)  { c.contained().rung = Containment(o) }
func (o cgroupParentOption) apply(c *config) { c.contained().parent = string(o) }
func (o memoryMaxOption) apply(c *config) {
	want := c.contained()
	want.limits.Memory, want.memorySet = int64(o), true
}
func (o pidsMaxOption) apply(c *config) {
	want := c.contained()
	want.limits.PIDs, want.pidsSet = int(o), true
}
func (o cpuMaxOption) apply(c *config) {
	want := c.contained()
	want.limits.CPU, want.cpuSet = float64(o), true
}

// WithContainment sets what the run must have to start at all. Where it can not be had the error is
// a *[ContainmentError], which matches [ErrContainment], and nothing was started. The default is
// ContainmentBest.
//
// A cgroup, version 2 of cgroups(7), is made below that of this process (see [WithCgroupParent]), the
// command is born in it, clone3(2), and whatever it starts stays in it, however it daemonizes: the end
// of the run kills all of it with one write, the kernel says when it is empty, and it is removed. It
// can be had where this process may make a cgroup there: as root, in a unit with Delegate=yes, in
// most containers that have /sys/fs/cgroup writable. It needs Linux 5.7; from 5.14 on killing takes one
// write. Removing it can add a tenth of a second to the bound of the run.
//
// A process leaves a cgroup if it may write to another one: root may, and so may a command that runs
// as the user to whom the hierarchy was delegated and that can reach it. A service that somebody else
// starts on request, systemd-run(1) or a container engine for one, was never in it.
//
// It excludes [BackgroundLeave]: what is contained ends with the run.
//
// If this process dies, the tree lives on in its cgroup: [RemoveStaleCgroups] ends it.
func WithContainment(c Containment) Option { return containmentOption(c) }

// WithCgroupParent sets the directory of the cgroup below which the run's own is made, an absolute path
// on a cgroup v2 file system, and requires that one like ContainmentCgroup does, unless
// ContainmentExact is asked for. This process must be allowed to make directories in it, and to write to
// the cgroup.procs of it and of the nearest cgroup that has both of them below it.
func WithCgroupParent(dir string) Option { return cgroupParentOption(dir) }

// WithMemoryMax limits the memory of the tree, in bytes, swap excluded: memory.max, and memory.swap.max 0.
// When more is needed and nothing can be reclaimed, the kernel kills the whole tree, memory.oom.group,
// and the error matches [ErrOOMKilled]. n must be positive.
//
// Like [WithPIDsMax] and [WithCPUMax] it requires a cgroup, whatever [WithContainment] says, and the
// controller in it: the parent must have it, and no processes of its own, since a cgroup has either
// processes or children with controllers. So where ours is the parent it can not be had, except for
// the root: a unit with Delegate=yes and DelegateSubgroup= names its own cgroup by [WithCgroupParent].
// Where the parent's children do not have the controller yet, the parent's cgroup.subtree_control is
// changed, for good. The [ContainmentError] names a controller that is missing.
func WithMemoryMax(n int64) Option { return memoryMaxOption(n) }

// WithPIDsMax limits how many processes and threads the tree has at a time, the command's first one
// included: a fork beyond that fails with EAGAIN, pids.max. n must be positive. See [WithMemoryMax].
func WithPIDsMax(n int) Option { return pidsMaxOption(n) }

// contained returns what c asks for, to be added to.
func (c *config) contained() *containment {
	if c.containment == nil {
		c.containment = new(containment)
	}
	return c.containment
}

// WithCPUMax limits the processor time of the tree to that of so many processors, which may be a
// fraction, from 0.01 on: within each tenth of a second, cpu.max. See [WithMemoryMax].
func WithCPUMax(processors float64) Option { return cpuMaxOption(processors) }

// checkContainment completes what was asked for: limits need a cgroup, and a parent is named for one.
func (c *config) checkContainment(cmd *exec.Cmd) error {
	want := c.containment
	if want == nil {
		return nil
	}
	switch {
	case want.rung < ContainmentBest || want.rung > ContainmentCgroup:
		return &ConfigError{Name: "WithContainment", Reason: "is no known containment"}
	case want.parent != "" && !filepath.IsAbs(want.parent):
		return &ConfigError{Name: "WithCgroupParent", Reason: "must be an absolute path"}
	case want.memorySet && want.limits.Memory <= 0:
		return &ConfigError{Name: "WithMemoryMax", Reason: "must be positive"}
	case want.pidsSet && want.limits.PIDs <= 0:
		return &ConfigError{Name: "WithPIDsMax", Reason: "must be positive"}
	case want.cpuSet && !want.limits.CPUInRange():
		return &ConfigError{Name: "WithCPUMax", Reason: "is out of range"}
	}
	if want.limits.Any() || want.parent != "" && want.rung == ContainmentBest {
		want.rung = ContainmentCgroup
	}
	if want.rung != ContainmentBest && cgroup.Named(cmd.SysProcAttr) {
		return &ConfigError{Name: "SysProcAttr", Reason: "has UseCgroupFD set: the run makes a cgroup of its own"}
	}
	if want.rung != ContainmentBest && c.background == BackgroundLeave {
		return &ConfigError{Name: "WithBackground", Reason: "leaves processes, and WithContainment leaves none"}
	}
	return nil
}

// A ContainmentError says why a run can not have the containment that it must have. It matches
// [ErrContainment]. Nothing was started, or nothing has run.
type ContainmentError struct {
	Cgroup     string // the directory of the cgroup that it is about; empty if none
	Controller string // memory, pids or cpu, if it is for want of one
	Err        error
}

func (e *ContainmentError) Error() string {
	var why []string
	for _, err := range flatten(e.Err) {
		why = append(why, strings.TrimPrefix(err.Error(), "safeexec: "))
	}
	return "safeexec: containment can not be had: " + strings.Join(why, "; ")
}

// Unwrap returns what went wrong.
func (e *ContainmentError) Unwrap() error { return e.Err }

// Is makes it match ErrContainment.
func (e *ContainmentError) Is(target error) bool { return target == ErrContainment }

func containmentError(err error) error {
	e := &ContainmentError{Err: err}
	if c, ok := errors.AsType[*cgroup.Error](err); ok {
		e.Cgroup, e.Controller = c.Dir, c.Controller
	}
	return e
}

// RemoveStaleCgroups ends what is left of runs whose process has died: it kills what is in their cgroups
// below parent, the cgroup of this process if it is empty, and removes them. It returns how many it
// removed and the first error; the rest are tried all the same, each for at most two seconds. They are
// told by their names, safeexec-PID-RANDOM with a decimal and a hexadecimal number of up to 16 digits:
// such names are reserved, and no other cgroup is touched. Those of runs that are under way, in whatever
// process, are told by a lock and left alone. A cgroup that a run could not remove, because of processes
// that survived, is removed once they are gone. Linux only.
func RemoveStaleCgroups(parent string) (int, error) {
	n, err := cgroup.RemoveStale(parent)
	if err != nil {
		return n, &Error{Op: "remove stale cgroups", errs: []error{err}}
	}
	return n, nil
}

// rung returns what is in force, once the command is started.
func (r *run) rung() Containment {
	switch {
	case r.Leaf != nil:
		return ContainmentCgroup
	case r.noCgroup != nil:
		return ContainmentExact
	}
	return ContainmentBest
}

// contain makes the cgroup that the command is to be born in. Where there is none and there need not
// be, the command is to be stopped.
func (r *run) contain() error {
	c := r.cfg.containment
	if c == nil || c.rung == ContainmentBest {
		return nil
	}
	leaf, err := cgroup.Make(c.parent)
	if err == nil {
		r.Leaf = leaf
		if err = leaf.Limit(c.limits); err == nil {
			return nil
		}
	}
	return r.withoutCgroup(err)
}

// withoutCgroup goes on without a cgroup, for the reason given, if that may be.
func (r *run) withoutCgroup(reason error) error {
	r.removeLeaf()
	if r.cfg.containment.rung == ContainmentExact {
		r.noCgroup = reason
		return nil
	}
	return containmentError(reason)
}

// stopsFirst reports whether the command is stopped before its first instruction.
func (r *run) stopsFirst() bool { return r.cfg.proof || r.noCgroup != nil }

// markStopped gives the command, in its exec stop, the limit mark, which all that it starts will have.
// It is what stands in for a cgroup where containment is required.
func (r *run) markStopped(stop *execstop.Stop) error {
	if !r.marks.Limit(r.own.Process.Pid) && r.noCgroup != nil && !stop.Exited() {
		return r.unstoppable(errNoMark)
	}
	return nil
}

// unstoppable is why the command can not be stopped or marked, and what that means where it is stopped
// for want of a cgroup.
func (r *run) unstoppable(reasons ...error) error {
	if r.noCgroup == nil {
		return join(reasons...)
	}
	return containmentError(join(append(reasons, r.noCgroup)...))
}

var errNoMark = errors.New("the command can not be marked")

// removeBound is how long the kernel may say that a cgroup is busy which it said is empty.
const removeBound = 100 * time.Millisecond

// removeLeaf removes the run's cgroup. Processes that survive keep it.
func (r *run) removeLeaf() {
	if r.Leaf == nil {
		return
	}
	r.result.OOMKilled = r.Leaf.OOMKilled()
	until := engine.Past
	if populated, err := r.Leaf.Populated(); err == nil && !populated {
		until = time.Now().Add(removeBound)
	}
	if r.Leaf.Remove(until) != nil {
		r.result.LeftCgroup = r.Leaf.Dir()
	}
	r.Leaf = nil
}

// refused asks, after a start that failed, whether it was for the cgroup: then it is tried again without,
// if that may be.
func (r *run) refused() (again bool, err error) {
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
	if !engine.FilesOpen(r.cmd) {
		return false, containmentError(reason)
	}
	return true, nil
}
