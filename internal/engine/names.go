package engine

import (
	"context"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

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

// Direct reports whether a stream of the command's bypasses this process.
func Direct(stream any) bool { return stdio.Direct(stream) }

// MadeByPipe reports whether a file of the command's is the end that StdinPipe or its kin made for the child.
func MadeByPipe(cmd *exec.Cmd, file *os.File) bool { return stdio.MadeByPipe(cmd, file) }

// Alone returns a Writer that is called by one goroutine at a time, if there is a lock for it.
func Alone(w io.Writer, lock *sync.Mutex) io.Writer { return stdio.Alone(w, lock) }

// PipesAreSeen reports whether os/exec keeps what StdoutPipe and its kin opened where it is looked for.
func PipesAreSeen() bool { return stdio.PipesAreSeen() }

// KillTree ends the tree of root, as the ladder says.
func KillTree(ctx context.Context, root *Root, rungs ladder.Rungs) (TreeEnd, error) {
	return ladder.KillTree(ctx, root, rungs)
}

// Inspect returns what is known of a process.
func Inspect(pid int) Process { return proctree.Inspect(pid) }

// BootID names this boot of the machine.
func BootID() string { return proctree.BootID() }

// Foreign reports whether /proc is of another namespace.
func Foreign() bool { return proctree.Foreign() }

// SetSubreaper has this process adopt orphans.
func SetSubreaper() error { return proctree.SetSubreaper() }

// ParseTracks reads what Tracks writes.
func ParseTracks(text string) (tracks Tracks, unknown string) { return proctree.ParseTracks(text) }

// Hold holds the process that has pid, if it began at start; 0 is any time.
func Hold(pid int, start uint64) (*Root, error) { return proctree.Hold(pid, start) }

// HoldProcess is Hold for a process that os has.
func HoldProcess(p *os.Process) (*Root, error) { return proctree.HoldProcess(p) }

// NamesCgroup reports whether a command names a cgroup to be born in.
func NamesCgroup(attr *syscall.SysProcAttr) bool { return cgroup.Named(attr) }

// RemoveStaleCgroups ends what is left of runs whose process has died.
func RemoveStaleCgroups(parent string) (int, error) { return cgroup.RemoveStale(parent) }
