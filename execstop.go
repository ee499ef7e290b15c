package safeexec

import (
	"errors"
	"time"

	"github.com/seed841d8200/safeexec/internal/execstop"
	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

type (
	proofOption struct{}
	limitOption resourceLimit
	niceOption  int
)

func (proofOption) apply(c *config)   { c.proof = true }
func (o limitOption) apply(c *config) { c.limits = append(c.limits, resourceLimit(o)) }
func (o niceOption) apply(c *config)  { c.nice, c.niceSet = int(o), true }

// WithFDProof proves what the command inherits. It is stopped at its execve, before the first
// instruction of the program, its interpreter or its dynamic loader, and its table of descriptors
// is compared with what was declared. If there is anything else, the command is killed and the
// error is a *[LeakedFDsError]; if the table can not be read, [ErrFDsUnknown]. Otherwise
// Result.FDsProved is set and the command runs untraced. This is the only way to have no race with
// what other threads of this process open.
//
// The stop is that of ptrace(2): where it is refused, by a seccomp filter or because somebody
// traces the command already, the error is [ErrProofRefused] and nothing has run. A program with
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
	LimitProcesses                        // processes and threads of the user, no matter whose; not of root
	LimitFileSize                         // of a file that is written, in bytes
	LimitCore                             // of a core file, in bytes; 0 for none
)

var resources = map[Resource]proctree.Resource{
	LimitCPU: proctree.ResourceCPU, LimitAddressSpace: proctree.ResourceAddressSpace,
	LimitOpenFiles: proctree.ResourceOpenFiles, LimitProcesses: proctree.ResourceProcesses,
	LimitFileSize: proctree.ResourceFileSize, LimitCore: proctree.ResourceCore,
}

type resourceLimit struct {
	resource Resource
	n        uint64
}

// WithLimit sets the soft and the hard limit of a resource to n, for the command and all that
// descend from it. Several can be given; of the same resource the last one counts. With
// [WithFDProof] the limits are set before the first instruction. Without, they are set right after
// the start: the command may have run for some tens of microseconds, what it started in them has
// the old limits, and so has what it had already done.
//
// Where a limit can not be set the command is killed, or ended if it may have run, with
// [ErrLimits]: raising one above this process's own hard limit needs CAP_SYS_RESOURCE. Linux only.
//
// The umask can not be set from outside of a process, and not for one thread of this process alone:
// a shell's umask does it.
func WithLimit(r Resource, n uint64) Option { return limitOption{r, n} }

// WithNice sets the command's nice value, from -20 to 19; lowering it needs CAP_SYS_NICE. It is set
// when the limits are, see [WithLimit].
func WithNice(n int) Option { return niceOption(n) }

func (c *config) checkStop() error {
	for _, l := range c.limits {
		if _, ok := resources[l.resource]; !ok {
			return &ConfigError{Name: "WithLimit", Reason: "is of no known resource"}
		}
	}
	if c.niceSet && (c.nice < -20 || c.nice > 19) {
		return &ConfigError{Name: "WithNice", Reason: "is out of range"}
	}
	return nil
}

// setLimits sets what the options say, on our unreaped child.
func (r *run) setLimits() error {
	pid := r.own.Process.Pid
	for _, l := range r.cfg.limits {
		if err := proctree.SetLimit(pid, resources[l.resource], l.n); err != nil {
			return err
		}
	}
	if r.cfg.niceSet {
		return proctree.SetNice(pid, r.cfg.nice)
	}
	return nil
}

// startStopped starts the command up to its exec stop, and lets it go if it has what was declared
// and nothing else. On error it has been killed.
func (r *run) startStopped() (err, ours error) {
	var stop *execstop.Stop
	err = r.marks.Start(func() (err error) {
		stop, err = execstop.Start(r.own)
		return err
	})
	if errors.Is(err, execstop.ErrRefused) {
		return nil, r.unstoppable(ErrProofRefused, err)
	}
	if err != nil {
		return err, nil
	}
	defer stop.Close()
	for _, step := range []func(*execstop.Stop) error{
		r.awaitStop, r.prove, r.keepPrivilege, r.markStopped, r.setLimitsStopped, (*execstop.Stop).Release,
	} {
		if err := step(stop); err != nil {
			r.killStopped(stop)
			return nil, err
		}
	}
	return nil, nil
}

// The pauses between two looks at a command on its way to its stop, which takes it microseconds
// unless a file system is slow.
const (
	firstPause = 20 * time.Microsecond
	lastPause  = time.Millisecond
)

// awaitStop waits until the command has stopped or is dead, or the run has to end.
func (r *run) awaitStop(stop *execstop.Stop) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		there, err := stop.Stopped()
		if there || err != nil {
			return err
		}
		if stop.Exited() {
			return nil
		}
		if r.result.Cause = r.reason(time.Now()); r.result.Cause != CauseNone {
			return r.causeError()
		}
		time.Sleep(pause)
	}
}

// prove compares what the command has with what was declared.
func (r *run) prove(stop *execstop.Stop) error {
	if !r.cfg.proof || stop.Exited() {
		return nil
	}
	extra := make([]bool, len(r.cmd.ExtraFiles))
	for i, f := range r.cmd.ExtraFiles {
		extra[i] = f != nil
	}
	undeclared, err := fdtable.Undeclared(r.own.Process.Pid, extra, r.cfg.fds, r.own.Env)
	switch {
	case err != nil && stop.Exited():
		return nil // killed by somebody else: it has run nothing
	case err != nil:
		return join(ErrFDsUnknown, err)
	case len(undeclared) > 0:
		r.result.LeakedFDs = fds(undeclared)
		return &LeakedFDsError{FDs: r.result.LeakedFDs}
	}
	r.result.FDsProved = true
	return nil
}

// keepPrivilege refuses a program that would run without the privilege of its file.
func (r *run) keepPrivilege(stop *execstop.Stop) error {
	if stop.Exited() {
		return nil
	}
	lost, err := stop.LosesPrivilege()
	switch {
	case err != nil && stop.Exited():
		return nil
	case err != nil:
		return r.unstoppable(ErrProofPrivilege, err)
	case lost:
		return r.unstoppable(ErrProofPrivilege)
	}
	return nil
}

func (r *run) setLimitsStopped(stop *execstop.Stop) error {
	if err := r.setLimits(); err != nil && !stop.Exited() {
		return join(ErrLimits, err)
	}
	return nil
}

// killStopped ends a command that has not run. Its exit closes files, which can take for ever on a
// dead file system, and is waited for no longer than any other death by SIGKILL.
func (r *run) killStopped(stop *execstop.Stop) {
	r.result.FDsProved = false
	stop.Kill()
	bound := time.Now().Add(r.cfg.kill)
	for pause := firstPause; !stop.Exited(); pause = min(2*pause, lastPause) {
		if time.Now().After(bound) {
			own := r.own
			r.result.Abandoned = append(r.result.Abandoned, AbandonedLeader)
			go func() { _ = own.Wait() }()
			return
		}
		time.Sleep(pause)
	}
	_ = r.own.Wait()
}
