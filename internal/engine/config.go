package engine

import (
	"context"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A Config says how a command is run. It is checked before it comes here, and belongs to its Run from then on.
type Config struct {
	Timeout    time.Duration // 0: the context's deadline alone
	Grace      time.Duration
	Linger     time.Duration
	Kill       time.Duration
	Drain      time.Duration
	StartRetry time.Duration
	Report     time.Duration // for the report
	Idle       time.Duration // 0: no limit

	TermSignal    syscall.Signal
	Diagnostic    Diagnostic // in force if DiagnosticSet
	DiagnosticSet bool

	OutputLimit      int64
	OverflowStops    bool
	StopOnWriteError bool
	Merge            bool // both outputs through one pipe

	Background  Background
	FDPolicy    FDPolicy
	FDs         []int // that are passed on by number
	Limits      []ResourceLimit
	Nice        int // in force if NiceSet
	NiceSet     bool
	Containment *Containing       // nil where none was asked for
	Forces      []context.Context // that end the grace period

	Proof    bool
	Guard    bool
	Terminal bool
	PTY      Size // of the command's own terminal; zero for none
	NoReport bool
	Commands bool // a report holds command lines
}

// Rungs are how a tree is ended.
func (c *Config) Rungs() ladder.Rungs {
	return ladder.Rungs{Signal: c.TermSignal, Grace: c.Grace, Kill: c.Kill}
}

// A Diagnostic is a signal that has a tree say what it is doing, and the time that it has for that.
type Diagnostic struct {
	Signal syscall.Signal
	Wait   time.Duration
}

// A Background says what becomes of the processes that a command leaves behind.
type Background int

// The policies about background processes.
const (
	BackgroundKill Background = iota
	BackgroundWait
	BackgroundLeave
)

// An FDPolicy says what a start does about descriptors that the child would inherit undeclared.
type FDPolicy int

// The policies about descriptors.
const (
	FDMark FDPolicy = iota
	FDReport
	FDRefuse
	FDOff
)

// A ResourceLimit is one that the command gets.
type ResourceLimit struct {
	Resource Resource
	N        uint64
}

// A Resource is what a limit limits.
type Resource int

// The resources.
const (
	LimitCPU Resource = iota + 1
	LimitAddressSpace
	LimitOpenFiles
	LimitProcesses
	LimitFileSize
	LimitCore
)

var resources = [...]proctree.Resource{
	LimitCPU: proctree.ResourceCPU, LimitAddressSpace: proctree.ResourceAddressSpace,
	LimitOpenFiles: proctree.ResourceOpenFiles, LimitProcesses: proctree.ResourceProcesses,
	LimitFileSize: proctree.ResourceFileSize, LimitCore: proctree.ResourceCore,
}

// A Containment says how surely a tree is held.
type Containment int

// The rungs of containment.
const (
	ContainmentBest Containment = iota
	ContainmentExact
	ContainmentCgroup
)

// A Containing is what the options say of containment.
type Containing struct {
	Rung   Containment
	Parent string // of the cgroup; empty for this process's own
	Limits cgroup.Limits
}

// Bounds that are the same for every run.
const (
	// HolderBound is how long a look for the holders of the pipes takes at most.
	HolderBound = 100 * time.Millisecond
	// TimerSlack is how long a context's own timer is waited for, so that context.Cause is known. It has
	// nearly always fired while the tree was ended.
	TimerSlack = 50 * time.Millisecond
	// RemoveBound is how long the kernel may say that a cgroup is busy which it said is empty.
	RemoveBound = 100 * time.Millisecond
)
