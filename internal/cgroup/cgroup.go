// Package cgroup holds a command and all that descends from it in a cgroup of its own, cgroups(7)
// version 2: no process leaves it by fork, setsid or exec, one write kills all of it, and the kernel
// says when it is empty.
//
// Such a cgroup is a [Leaf]: a directory made below our own cgroup, or below a given one, and removed
// when the command's tree is gone. A process leaves it only by a write to cgroup.procs of another
// cgroup, for which it needs permission on both and on their common ancestor: root has that, and so
// has a command that runs as the user that owns the delegated hierarchy, unless it cannot reach it.
//
// # The owner of a leaf
//
// The owner holds a lock on the directory, flock(2), for as long as it has it open. The kernel takes
// the lock away with the owner, however that ends. A leaf without the lock is stale, and [RemoveStale]
// ends what is in it. Unlike a PID and a start time the lock means the same in every PID namespace, and no
// other process can reuse it. The name tells people the owner of the leaf, and the remover a leaf from other
// cgroups: safeexec-PID-RANDOM, in decimal and hexadecimal, is reserved for leaves, and no other name is. It
// is unique, so that a process belongs to the leaf if the name is an element of the path in its
// /proc/PID/cgroup, in whatever way cgroups are mounted and namespaced here.
//
// What can happen between making and locking, and why a leaf in use is never taken for a stale one:
// the remover locks before it kills or removes. If it comes between, the owner's own lock fails, or its
// path is gone once it has the lock. Nothing runs in the leaf yet, and the owner makes another.
package cgroup

import (
	"errors"
	"fmt"
	"strings"
)

// The controllers that limits need, as cgroup.controllers names them.
const (
	Memory = "memory"
	PIDs   = "pids"
	CPU    = "cpu"
)

// ErrController says that a limit's controller is not there.
var ErrController = errors.New("controller is not available")

// An Error says what could not be had, and in which cgroup.
type Error struct {
	Op         string // what was being done, or the name of a file
	Dir        string // of the cgroup; empty where none was found
	Controller string // that is missing, if that is the reason
	Err        error
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("cgroup")
	if e.Dir != "" {
		fmt.Fprintf(&b, " %s", e.Dir)
	}
	fmt.Fprintf(&b, ": %s", e.Op)
	if e.Controller != "" {
		fmt.Fprintf(&b, " %s", e.Controller)
	}
	fmt.Fprintf(&b, ": %v", e.Err)
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Limits are those of the whole tree in a leaf together. Zero is none.
type Limits struct {
	Memory int64   // bytes, without swap
	PIDs   int     // processes and threads
	CPU    float64 // processors' worth of time
}

// cpuPeriod is the period of cpu.max, in microseconds: the kernel's own default. A share is used up
// within it and has to wait for the next one.
const cpuPeriod = 100_000

// minCPU is the smallest share that the kernel takes: 1 ms a period (sched/core.c, min_cfs_quota_period).
const (
	minCPU = 0.01
	maxCPU = 1 << 20 // more than any machine has
)

// Any reports whether there is a limit.
func (l Limits) Any() bool { return l != Limits{} }

// CPUInRange reports whether the kernel takes the share.
func (l Limits) CPUInRange() bool { return l.CPU >= minCPU && l.CPU <= maxCPU }
