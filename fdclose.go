package safeexec

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/fdtable"
)

// What a child gets, and what it does not:
//
// Go opens files close-on-exec. Two sorts of descriptors are not: those this process was itself
// born with, because whoever started it was careless or meant it, and those that C libraries and
// raw system calls open. Before each start all of them are marked close-on-exec, by one system call
// that costs the same whatever is open. They are never closed, since their owners may be using
// them.
//
// The race that is left: a descriptor that another thread opens without close-on-exec after the
// mark and before the clone is inherited. The mark is set right before os/exec is called, which
// leaves some tens of microseconds, and set anew before each further try. Holding syscall.ForkLock
// would not help, C libraries do not know it, and would let one stuck start block every other.

// An FDPolicy says what a start does about descriptors that the child would inherit undeclared.
type FDPolicy int

// The policies.
const (
	// FDMark marks them close-on-exec, in this process and for good.
	FDMark FDPolicy = iota
	// FDReport leaves them as they are and lists them in Result.LeakedFDs.
	FDReport
	// FDRefuse leaves them as they are and does not start the command while there are any.
	FDRefuse
	// FDOff does not look.
	FDOff
)

type (
	fdPolicyOption FDPolicy
	fdsOption      []int
)

func (o fdPolicyOption) apply(c *config) { c.FDPolicy = engine.FDPolicy(o) }
func (o fdsOption) apply(c *config)      { c.FDs = o }

// WithFDPolicy sets what is done about descriptors that the command would inherit although nobody
// said so: all but the standard streams, ExtraFiles, those of [WithFDs], and those that the
// command's environment declares, which are left and listed in Result.DeclaredFDs. Declared is the
// jobserver of make, in MAKEFLAGS or CARGO_MAKEFLAGS, if its pipe is one that this process was born
// with. The sockets of LISTEN_FDS are for this process alone (sd_listen_fds(3)): a command gets those
// that WithFDs names.
//
// The default, FDMark, changes this process for good: also commands that are started without
// safeexec no longer inherit what was marked. Programs that live on inherited descriptors other
// than the declared ones need WithFDs: bash's tool <(command) is one, with its /dev/fd/63. A
// program that hands descriptors to its own successor by syscall.Exec must take the mark off right
// before that.
//
// On other systems than Linux FDMark does nothing and FDRefuse is [errors.ErrUnsupported].
func WithFDPolicy(policy FDPolicy) Option { return fdPolicyOption(policy) }

// WithFDs passes on descriptors of this process, under the numbers they have here, whether they are
// marked close-on-exec or not. What this process opened itself is better passed in ExtraFiles of
// the command; these are for what it was born with, where the command knows the number: a script's
// argument /dev/fd/63, a descriptor that a supervisor promises. Neither the mark nor O_NONBLOCK of
// the descriptor is changed. The numbers of standard streams and of ExtraFiles can not be used. A
// later WithFDs replaces an earlier one. Linux only.
func WithFDs(fds ...int) Option { return fdsOption(slices.Clone(fds)) }

func (c *config) checkFDs(cmd *exec.Cmd) error {
	if c.FDPolicy < engine.FDMark || c.FDPolicy > engine.FDOff {
		return &ConfigError{Name: "WithFDPolicy", Reason: "is no known policy"}
	}
	for _, fd := range c.FDs {
		var what string
		switch {
		case fd < fdtable.FirstFD:
			what = "is no descriptor or a standard stream"
		case fd < fdtable.FirstFD+len(cmd.ExtraFiles):
			what = "is the number of an extra file"
		default:
			continue
		}
		return &ConfigError{Name: "WithFDs", Reason: fmt.Sprintf("can not pass on %d, which %s", fd, what)}
	}
	return nil
}

// A LeakedFDsError lists descriptors that the command would have inherited undeclared. It matches
// [ErrLeakedFDs]. The command has not run.
type LeakedFDsError struct {
	FDs FDs
}

// Error names each descriptor.
func (e *LeakedFDsError) Error() string {
	var names []string
	for i := range e.FDs {
		names = append(names, fmt.Sprintf("%d (%s)", e.FDs[i].Num, e.FDs[i].target()))
	}
	return ErrLeakedFDs.Error() + ": " + strings.Join(names, ", ")
}

// Is reports whether target is ErrLeakedFDs.
func (e *LeakedFDsError) Is(target error) bool { return target == ErrLeakedFDs }
