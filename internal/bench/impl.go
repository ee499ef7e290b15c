package main

import (
	"context"
	"io"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec"
)

// A job is one run of one command, said so that every implementation can do it.
type job struct {
	argv   []string
	stdin  io.Reader       // nil: /dev/null
	stdout io.Writer       // nil: captured
	keep   int             // captured: at most about so many bytes; 0: everything, or the default
	ctx    context.Context // nil: nothing ends the run early
	linger time.Duration   // how long a pipe may be held after the exit; 0: the default
}

func (j *job) context() context.Context {
	if j.ctx == nil {
		return context.Background()
	}
	return j.ctx
}

// An outcome is what a workload checks, so that an implementation that lost output is not fast.
type outcome struct {
	total int64 // bytes of a captured standard output, those that were not kept included; -1: not known
	times safeexec.Times
}

// A work says which kinds of job an implementation can do.
type work uint

const (
	capture work = 1 << iota // both outputs captured, whatever their length
	bounded                  // a captured output with a bound on the memory
	stream                   // standard output to a Writer
	input                    // standard input from a Reader
	stop                     // the whole tree is ended when the context is
	outside                  // not in this process: its own clock, one at a time
	common                   // no mere variant of another: in all that it can do, however long it takes
)

// An impl is one way to run a command.
type impl struct {
	name string
	can  work
	run  func(j *job) (outcome, error)
}

func (i *impl) fits(w work) bool { return i.can&w == w }

// reference is what all others are compared with.
const reference = "os-safe"

// subject is what the gates are for.
const subject = "safeexec"

// Modes of safeexec that are measured beside the default.
const (
	inCgroup  = subject + "-cgroup"
	withProof = subject + "-proof"
)

// inSession is the reference in a session of its own, which alone makes a difference on a busy machine.
const inSession = "os-setsid"

// impls are the implementations. A mode of safeexec is one more line.
var impls = []impl{
	{reference, all | common, osSafe},
	{subject, all | common, viaSafeexec()},
	{inCgroup, all, viaSafeexec(safeexec.WithContainment(safeexec.ContainmentCgroup))},
	{withProof, capture | stop, viaSafeexec(safeexec.WithFDProof())},
	{inSession, capture | bounded | stream | input | common, osSession},
	{"os", capture | stream | input | common, osBare},
	{"go-cmd", capture | common, goCmd},
	{"k8s-exec", capture | stream | input | common, k8sExec},
	{"script", capture | stream | input | common, bitfieldScript},
	{"sh", capture | stream | input | common, shHandler},
	{"c-limit", capture | bounded | outside | common, nil}, // see openLimit
}

const all = capture | bounded | stream | input | stop

// keepAvailable drops the modes that cannot be had here, with a note.
func keepAvailable(b *bench) {
	impls = slices.DeleteFunc(impls, func(i impl) bool {
		if i.name != inCgroup && i.name != withProof {
			return false
		}
		_, err := i.run(&job{argv: noop()})
		if err != nil {
			b.note("%s is left out: %v", i.name, err)
		}
		return err != nil
	})
}

// fitting returns the implementations that can do w, the reference first.
func fitting(w work) []impl {
	var found []impl
	for _, i := range impls {
		if i.fits(w) {
			found = append(found, i)
		}
	}
	return found
}

// named returns an implementation by its name, nil if there is none.
func named(name string) *impl {
	for i := range impls {
		if impls[i].name == name {
			return &impls[i]
		}
	}
	return nil
}
