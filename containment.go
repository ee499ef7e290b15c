package safeexec

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/seed841d8200/safeexec/internal/engine"
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

type (
	containmentOption  Containment
	cgroupParentOption string
	memoryMaxOption    int64
	pidsMaxOption      int
	cpuMaxOption       float64
)

func (o containmentOption) apply(c *config)  { c.contained().Rung = engine.Containment(o) }
func (o cgroupParentOption) apply(c *config) { c.contained().Parent = string(o) }
func (o memoryMaxOption) apply(c *config) {
	want := c.contained()
	want.Limits.Memory, c.memorySet = int64(o), true
}
func (o pidsMaxOption) apply(c *config) {
	want := c.contained()
	want.Limits.PIDs, c.pidsSet = int(o), true
}
func (o cpuMaxOption) apply(c *config) {
	want := c.contained()
	want.Limits.CPU, c.cpuSet = float64(o), true
}

// WithContainment sets what the run must have to start at all. Where it cannot be had the error is
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
// as the user that owns the delegated hierarchy and can reach it. What another service starts on
// request, systemd-run(1) or a container engine for one, was never in it.
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
// processes or children with controllers. So where ours is the parent it cannot be had, except for
// the root: a unit with Delegate=yes and DelegateSubgroup= names its own cgroup by [WithCgroupParent].
// Where the parent's children do not have the controller yet, the parent's cgroup.subtree_control is
// changed, for good. The [ContainmentError] names a controller that is missing.
func WithMemoryMax(n int64) Option { return memoryMaxOption(n) }

// WithPIDsMax limits how many processes and threads the tree has at a time, the command's first one
// included: a fork beyond that fails with EAGAIN, pids.max. n must be positive. See [WithMemoryMax].
func WithPIDsMax(n int) Option { return pidsMaxOption(n) }

// contained returns what c asks for, to be added to.
func (c *config) contained() *engine.Containing {
	if c.Containment == nil {
		c.Containment = new(engine.Containing)
	}
	return c.Containment
}

// WithCPUMax limits the processor time of the tree to that of so many processors, which may be a
// fraction, from 0.01 on: within each tenth of a second, cpu.max. See [WithMemoryMax].
func WithCPUMax(processors float64) Option { return cpuMaxOption(processors) }

// checkContainment completes what was asked for: limits need a cgroup, and a parent is named for one.
func (c *config) checkContainment(cmd *exec.Cmd) error {
	want := c.Containment
	if want == nil {
		return nil
	}
	switch {
	case want.Rung < engine.ContainmentBest || want.Rung > engine.ContainmentCgroup:
		return &ConfigError{Name: "WithContainment", Reason: "is no known containment"}
	case want.Parent != "" && !filepath.IsAbs(want.Parent):
		return &ConfigError{Name: "WithCgroupParent", Reason: "must be an absolute path"}
	case c.memorySet && want.Limits.Memory <= 0:
		return &ConfigError{Name: "WithMemoryMax", Reason: "must be positive"}
	case c.pidsSet && want.Limits.PIDs <= 0:
		return &ConfigError{Name: "WithPIDsMax", Reason: "must be positive"}
	case c.cpuSet && !want.Limits.CPUInRange():
		return &ConfigError{Name: "WithCPUMax", Reason: "is out of range"}
	}
	if want.Limits.Any() || want.Parent != "" && want.Rung == engine.ContainmentBest {
		want.Rung = engine.ContainmentCgroup
	}
	if want.Rung != engine.ContainmentBest && engine.NamesCgroup(cmd.SysProcAttr) {
		return &ConfigError{Name: "SysProcAttr", Reason: "has UseCgroupFD set: the run makes a cgroup of its own"}
	}
	if want.Rung != engine.ContainmentBest && c.Background == engine.BackgroundLeave {
		return &ConfigError{Name: "WithBackground", Reason: "leaves processes, and WithContainment leaves none"}
	}
	return nil
}

// A ContainmentError says why a run cannot have the containment that it must have. It matches
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
	return "safeexec: containment cannot be had: " + strings.Join(why, "; ")
}

// Unwrap returns what went wrong.
func (e *ContainmentError) Unwrap() error { return e.Err }

// Is makes it match ErrContainment.
func (e *ContainmentError) Is(target error) bool { return target == ErrContainment }

// RemoveStaleCgroups ends what is left of runs whose process has died: it kills all processes in their
// cgroups below parent, and removes them. An empty parent means the cgroup of this process. It returns
// how many it removed and the first error; an error does not keep it from trying the rest, each for at
// most two seconds. It recognizes them by name, safeexec-PID-RANDOM with a decimal and a hexadecimal
// number of up to 16 digits: such names are reserved, and it touches no other cgroup. A lock marks the
// cgroups of runs that are under way, in any process; it leaves them alone. A cgroup that a run could
// not remove, because of survivors, is removed once they are gone. Linux only.
func RemoveStaleCgroups(parent string) (int, error) {
	n, err := engine.RemoveStaleCgroups(parent)
	if err != nil {
		return n, &Error{Op: "remove stale cgroups", errs: []error{err}}
	}
	return n, nil
}

type (
	proofOption struct{}
	limitOption engine.ResourceLimit
	niceOption  int
)

func (proofOption) apply(c *config)   { c.Proof = true }
func (o limitOption) apply(c *config) { c.Limits = append(c.Limits, engine.ResourceLimit(o)) }
func (o niceOption) apply(c *config)  { c.Nice, c.NiceSet = int(o), true }

// WithFDProof proves what the command inherits. It is stopped at its execve, before the first
// instruction of the program, its interpreter or its dynamic loader, and its table of descriptors
// is compared with what was declared. If there is anything else, the command is killed and the
// error is a *[LeakedFDsError]; if the table cannot be read, [ErrFDsUnknown]. Otherwise
// Result.FDsProved is set and the command runs untraced. This is the only way to have no race with
// what other threads of this process open.
//
// The stop is that of ptrace(2): where it is refused, by a seccomp filter or because another process
// already traces the command, the error is [ErrProofRefused] and nothing has run. A program with
// set-user-ID, set-group-ID or file capabilities would run without its privilege, and is refused
// with [ErrProofPrivilege] unless this process holds CAP_SYS_PTRACE. It costs some tenths of a
// millisecond and a thread for as long. On other systems than Linux it is [errors.ErrUnsupported].
func WithFDProof() Option { return proofOption{} }

// A Resource is what [WithLimit] limits.
type Resource int

// The resources, see getrlimit(2).
const (
	LimitCPU          Resource = iota + 1 // CPU time of each process, in seconds
	LimitAddressSpace                     // memory of each process, in bytes
	LimitOpenFiles                        // the number after the highest descriptor
	LimitProcesses                        // all processes and threads of the user, of any program; not of root
	LimitFileSize                         // of a file that is written, in bytes
	LimitCore                             // of a core file, in bytes; 0 for none
)

// WithLimit sets the soft and the hard limit of a resource to n, for the command and all that
// descend from it. Several can be given; of the same resource the last one counts. With
// [WithFDProof] the limits are set before the first instruction. Without, they are set right after
// the start: the command may have run for some tens of microseconds, what it started in them has
// the old limits, and so has what it had already done.
//
// Where a limit cannot be set the command is killed, or ended if it may have run, with
// [ErrLimits]: raising one above this process's own hard limit needs CAP_SYS_RESOURCE. Linux only.
//
// The umask cannot be set from outside of a process, and not for one thread of this process alone:
// a shell's umask does it.
func WithLimit(r Resource, n uint64) Option { return limitOption{engine.Resource(r), n} }

// WithNice sets the command's nice value, from -20 to 19; lowering it needs CAP_SYS_NICE. It is set
// when the limits are, see [WithLimit].
func WithNice(n int) Option { return niceOption(n) }

func (c *config) checkStop() error {
	for _, l := range c.Limits {
		if l.Resource < engine.LimitCPU || l.Resource > engine.LimitCore {
			return &ConfigError{Name: "WithLimit", Reason: "is of no known resource"}
		}
	}
	if c.NiceSet && (c.Nice < -20 || c.Nice > 19) {
		return &ConfigError{Name: "WithNice", Reason: "is out of range"}
	}
	return nil
}

type guardOption struct{}

func (guardOption) apply(c *config) { c.Guard = true }

// WithGuard has the command's tree ended also when this process is gone before the run is over: killed, out of
// memory, by os.Exit or a panic, or because it has executed another program. A helper process, started with the first
// such run, then ends each tree by the same ladder: the terminating signal, the grace period, SIGKILL; within these
// and the time for looks at the tree that [Bound] counts. It finds a tree by what a run finds it by, and kills the
// run's cgroup if there is one.
//
// The program calls Init of package guard first in main. Otherwise the option is a *[ConfigError], and so it is except
// on Linux. A helper that cannot be started is [ErrGuard], and nothing was started: it comes before the look at the
// program, which may not be there. A program that gains privileges when it is executed, execve(2), cannot have one.
// Result.GuardRestarts says whether there was a time without.
//
// What [BackgroundLeave] has left alive is not guarded, nor is a terminal given back, see [WithTerminal].
func WithGuard() Option { return guardOption{} }

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
// The caller must reap all other orphans: the descendants of commands that this package did not
// start, and those that a run left, as [BackgroundLeave] does. Until then they are zombies, each
// with its PID. All of this also works beside code that reaps every child, by wait4(2) of -1 or by
// ignoring SIGCHLD, but that code may take a command's status: the error is then [ErrStatusUnknown].
//
// It may be called at any time, any number of times. The error is [ErrUnsupported] except on Linux.
func SetSubreaper() error {
	if !engine.Enumerates {
		return ErrUnsupported
	}
	if err := engine.SetSubreaper(); err != nil {
		return fmt.Errorf("safeexec: prctl PR_SET_CHILD_SUBREAPER: %w", err)
	}
	return nil
}

type terminalOption struct{}

func (terminalOption) apply(c *config) { c.Terminal = true }

// WithTerminal runs an interactive command: an editor, a shell, a program that asks for a password. It
// stays in this session and leads a process group of its own that has the controlling terminal of
// this process, /dev/tty, until its tree has ended; then the terminal is taken back, however the run
// ended. Without a terminal the error is [ErrNoTerminal], and where this process is not in its
// foreground, or another run has it, [ErrNotForeground]; nothing has been started then.
//
// Streams are what [Run] makes of them, since programs that talk to the terminal may still have output
// to capture. An editor or shell needs all three set:
//
//	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
//
// Keys: Ctrl-C, Ctrl-\ and a changed window go to the command's group and not to this process. There is
// no job control: a command that Ctrl-Z stops is continued at once, since nothing else could continue it,
// and a stopped host would keep no timeout. One that SIGSTOP stopped stays so. While the command
// runs this process is in the background: reading from the terminal stops it, and so does writing
// after "stty tostop" (tty_ioctl(4), TIOCSPGRP). A terminal that hangs up sends SIGHUP to the session's
// leader alone; a program that wants to end the command then cancels the context.
//
// Modes of the terminal that the command changed stay, unless it was killed: if it died of a signal or
// was ended by the run they are as before, and where it had turned off the echo, what was typed and
// not read is discarded. A terminal that a shell gave to another job meanwhile is left alone. Where a process holds
// the terminal's locks for longer than a second the modes stay as they are: see [AbandonedTerminal].
//
// The tree is found with a weaker track, since the session is not the command's own: [TrackGroup] takes
// the place of [TrackSession], and every job of a shell is found by the others. The run takes one more
// thread.
// SysProcAttr.Setpgid and Foreground are what is done anyway; Setsid, Setctty, Noctty and Pgid are
// refused. On other systems than Linux it is [ErrUnsupported].
func WithTerminal() Option { return terminalOption{} }

// Tracks is a set of the independent ways by which the processes of a tree are told from all others.
// Each alone has a hole; a process is lost where it has slipped through all that were in force. Linux
// only: elsewhere the set is empty.
type Tracks uint

// The tracks.
const (
	// TrackSession is the session that the leader leads. A process that calls setsid(2) leaves it.
	TrackSession = Tracks(engine.TrackSession)
	// TrackGroup stands in for it where the leader stays in the session of this process. A process
	// that calls setpgid(2), as a shell with job control does for each job, leaves it.
	TrackGroup = Tracks(engine.TrackGroup)
	// TrackLimit is a mark in the soft limit RLIMIT_RTTIME, getrlimit(2), a number that limits
	// nothing. Every process born later than some ten microseconds after the leader's first
	// instruction inherits it. pam_limits(8), which su(1) runs, resets it. It is not available for
	// commands that run as another user unless this process has CAP_SYS_RESOURCE, where the hard
	// limit is lowered, and on kernels of 32 bits.
	TrackLimit = Tracks(engine.TrackLimit)
	// TrackSlice is a mark in the time slice, sched_setattr(2), of at most a millisecond, that the
	// leader is born with. It needs Linux 6.12 and a fair scheduling policy; programs that choose
	// their own slice or real-time scheduling lose it.
	TrackSlice = Tracks(engine.TrackSlice)
	// TrackParent is the parent of each process, as long as it lives.
	TrackParent = Tracks(engine.TrackParent)
	// TrackEnvironment is the variable SAFEEXEC_RUN. Programs that write their title over their
	// environment, and env -i, lose it.
	TrackEnvironment = Tracks(engine.TrackEnvironment)
	// TrackCgroup is the cgroup that the leader is born in, see [WithContainment].
	TrackCgroup = Tracks(engine.TrackCgroup)
	// TrackAdoption finds no processes: it says that orphans of the tree became children of this process,
	// which reaped them when they had died. See [SetSubreaper]; the first process of a PID namespace adopts
	// without it.
	TrackAdoption = Tracks(engine.TrackAdoption)
)

// Has reports whether all of the given tracks are in the set.
func (t Tracks) Has(tracks Tracks) bool { return t&tracks == tracks }

// String lists the tracks, separated by commas.
func (t Tracks) String() string { return engine.Tracks(t).String() }
