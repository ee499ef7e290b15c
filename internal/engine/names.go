package engine

import (
	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/discard"
	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/pty"
	"github.com/seed841d8200/safeexec/internal/terminal"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// What the root has to do with single processes, trees, cgroups and pipes that were left, beside its runs.

// Types of other packages, which facts are made of and asked for with.
type (
	Process        = proctree.Process
	Tracks         = proctree.Tracks
	Root           = proctree.Root
	ProtectedError = proctree.ProtectedError
	CgroupLimits   = cgroup.Limits
	LeftPipe       = discard.Pipe
	Kept           = stdio.Kept
	Fanout         = stdio.Fanout
	Follower       = stdio.Follower
	TreeEnd        = ladder.TreeEnd
	UsageTotal     = usage.Total
	Size           = pty.Size
)

// What streams there are.
const (
	StreamInput    = stdio.StreamInput
	StreamCaptured = stdio.StreamCaptured
)

// MaxSignal is the highest number that signal(7) gives to any signal.
const MaxSignal = ladder.MaxSignal

// Enumerates says that processes can be listed, Supported that commands can be run at all.
const (
	Enumerates = proctree.Enumerates
	Supported  = proctree.Supported
)

// SIGSTOP is that of signal(7), or no signal where there is none.
const SIGSTOP = proctree.SIGSTOP

// TerminalBound is how long it takes at most to give a terminal back.
const TerminalBound = terminal.Bound

// MaxLeftPipes is how many pipes may be left at a time.
const MaxLeftPipes = 256

// leftPipes discards what the processes write that runs have left.
var leftPipes = discard.New(MaxLeftPipes)

// LeftPipes returns the pipes that runs have left.
func LeftPipes() []*discard.Pipe { return leftPipes.Pipes() }

// ErrNoProcess says that there is no such process, ErrForeign that /proc is of another namespace, ErrHeld that a
// process holds a pipe or a terminal.
var (
	ErrNoProcess = proctree.ErrNoProcess
	ErrForeign   = proctree.ErrForeign
	ErrHeld      = stdio.ErrHeld
)

// The tracks.
const (
	TrackSession     = proctree.TrackSession
	TrackGroup       = proctree.TrackGroup
	TrackLimit       = proctree.TrackLimit
	TrackSlice       = proctree.TrackSlice
	TrackParent      = proctree.TrackParent
	TrackEnvironment = proctree.TrackEnvironment
	TrackCgroup      = proctree.TrackCgroup
	TrackAdoption    = proctree.TrackAdoption
)

// Functions of other packages.
var (
	// Direct reports whether a stream of the command's bypasses this process.
	Direct = stdio.Direct
	// MadeByPipe reports whether a file of the command's is the end that StdinPipe or its kin made for the child.
	MadeByPipe = stdio.MadeByPipe
	// PipesAreSeen reports whether os/exec keeps what StdoutPipe and its kin opened where it is looked for.
	PipesAreSeen = stdio.PipesAreSeen
	// Alone returns a Writer that is called by one goroutine at a time, if there is a lock for it.
	Alone = stdio.Alone
	// KillTree ends the tree of a root, as the ladder says.
	KillTree = ladder.KillTree
	// Hold holds the process that began at a time, HoldProcess one that os has.
	Hold        = proctree.Hold
	HoldProcess = proctree.HoldProcess
	// Inspect returns what is known of a process.
	Inspect = proctree.Inspect
	// BootID names this boot of the machine.
	BootID = proctree.BootID
	// Foreign reports whether /proc is of another namespace.
	Foreign = proctree.Foreign
	// SetSubreaper has this process adopt orphans.
	SetSubreaper = proctree.SetSubreaper
	// ParseTracks reads what Tracks writes.
	ParseTracks = proctree.ParseTracks
	// NamesCgroup reports whether a command names a cgroup to be born in.
	NamesCgroup = cgroup.Named
	// RemoveStaleCgroups ends what is left of runs whose process has died.
	RemoveStaleCgroups = cgroup.RemoveStale
)
