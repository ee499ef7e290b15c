package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// Limit sets limits on the leaf, before anything runs in it. Memory is a limit of memory, not of
// memory before swapping: swap is denied where it can be. Where it is exceeded all of the leaf is
// killed, since half of a tree is of no use to anybody. A controller that the leaf does not have is
// switched on for the parent's children, where that is free of side effects.
func (l *Leaf) Limit(limits Limits) error {
	if limits.Memory > 0 {
		if err := l.set(Memory, "memory.max", strconv.FormatInt(limits.Memory, 10)); err != nil {
			return err
		}
		for _, s := range [...]struct{ name, value string }{
			{"memory.swap.max", "0"},  // absent where there is no swap
			{"memory.oom.group", "1"}, // absent before 4.19
		} {
			if err := write(l.dir, s.name, s.value); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return &Error{Op: s.name, Dir: l.dir, Err: cause(err)}
			}
		}
	}
	if limits.PIDs > 0 {
		if err := l.set(PIDs, "pids.max", strconv.Itoa(limits.PIDs)); err != nil {
			return err
		}
	}
	if limits.CPU > 0 {
		return l.set(CPU, "cpu.max", fmt.Sprintf("%d %d", int64(limits.CPU*cpuPeriod), cpuPeriod))
	}
	return nil
}

func (l *Leaf) set(controller, name, value string) error {
	err := write(l.dir, name, value)
	if errors.Is(err, fs.ErrNotExist) {
		if err := enable(filepath.Dir(l.dir), controller); err != nil {
			return err
		}
		err = write(l.dir, name, value)
	}
	if err != nil {
		return &Error{Op: name, Dir: l.dir, Err: cause(err)}
	}
	return nil
}

var (
	errNotDelegated = fmt.Errorf("%w: it is not delegated, or used by cgroup v1", ErrController)
	errOccupied     = fmt.Errorf("%w to its children: it has processes of its own "+
		"(a child for them and another parent for commands would do)", ErrController)
)

// enable gives the children of a cgroup a controller, if the cgroup has it and no processes of its own.
// The kernel refuses most of the other cases, but not all: a controller that works on threads, as cpu
// and pids do, can be switched on beside processes, and from then on no child can have any
// (cgroups(7), "no internal processes" and thread mode). The root of the hierarchy is exempt.
func enable(dir, controller string) error {
	fail := func(err error) error {
		return &Error{Op: "enable controller", Dir: dir, Controller: controller, Err: cause(err)}
	}
	available, err := os.ReadFile(dir + "/cgroup.controllers")
	if err != nil {
		return fail(err)
	}
	if !listed(available, controller) {
		return fail(errNotDelegated)
	}
	if _, err := os.Lstat(dir + "/cgroup.type"); !errors.Is(err, fs.ErrNotExist) { // the root has none
		procs, err := os.ReadFile(dir + "/cgroup.procs")
		if err != nil {
			return fail(err)
		}
		if strings.TrimSpace(string(procs)) != "" {
			return fail(errOccupied)
		}
	}
	err = write(dir, "cgroup.subtree_control", "+"+controller)
	if sys.Busy(err) { // a process came in meanwhile
		err = errOccupied
	}
	if err != nil {
		return fail(err)
	}
	return nil
}
