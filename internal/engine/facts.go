package engine

import (
	"os"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/diagnose"
	"github.com/seed841d8200/safeexec/internal/discard"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
	"github.com/seed841d8200/safeexec/internal/usage"
)

// Facts are what is known about a run. What was never reached is zero.
type Facts struct {
	Program string // as errors name it
	PID     int    // of the leader; 0 if nothing was started
	Cause   Cause

	Started time.Time // the call
	Times   Times

	// Of the start.
	Missing      string // the interpreter that is not there
	StartRetries int
	LimitErr     error // limits could not be set on a command that runs
	Tracks       proctree.Tracks
	Containment  Containment
	MarkedFDs    []fdtable.FD
	LeakedFDs    []fdtable.FD
	DeclaredFDs  []fdtable.FD
	FDsProved    bool
	FDErr        error

	// Of the moment at which it was to end: later the context may say something else, and output may have moved.
	After    time.Duration // since Started
	Silent   time.Duration // since the last output
	CtxErr   error         // ctx.Err() and its cause, if the context is why
	CtxCause error
	Settled  Deadline // which deadline it was, with CauseTimeout

	// Of the report.
	Reported bool
	Subject  int                // the PID that it is about
	Snapshot *diagnose.Snapshot // nil if there was no time for one
	Taken    time.Time

	// Of the drain.
	Held           [3]bool // this pipe was left with a writer
	Holders        []Holder
	HoldersPartial bool
	LeftPipes      []*discard.Pipe

	// Of the end.
	Killed        []proctree.Process
	Survivors     []proctree.Process
	Left          []proctree.Process
	Hidden        int
	OOMKilled     bool
	LeftCgroup    string
	Usage         usage.Total
	GuardRestarts int
	State         *os.ProcessState
	WaitErr       error
	Signal        syscall.Signal // that ended the leader
	CoreDumped    bool
	SignaledBy    Signaler
	Abandoned     []Abandoned
	Output        [3]stdio.Kept
	End           *seam.End // of a fake
}

// Times say how long each phase took.
type Times struct{ Start, Run, Report, Diagnostic, Stop, Drain, Total time.Duration }

// A Holder is a process that holds a pipe of the run.
type Holder struct {
	proctree.Process
	FDs []int
}

// A Cause says why a run ended.
type Cause int

// The causes.
const (
	CauseNone Cause = iota
	CauseExited
	CauseTimeout
	CauseCanceled
	CauseIdle
	CauseOutputLimit
	CauseStopped
	CauseStartFailed
	CauseLimits
	CauseWriterFailed
)

// A Signaler says where the signal came from that ended the leader.
type Signaler int

// The signalers.
const (
	SignalerNone Signaler = iota
	SignalerSafeexec
	SignalerCaller
	SignalerOther
)

// An Abandoned is something of ours that outlives the run.
type Abandoned int

// What can be left behind.
const (
	AbandonedStart Abandoned = iota + 1
	AbandonedStdin
	AbandonedStdout
	AbandonedStderr
	AbandonedLeader
	AbandonedReport
	AbandonedLook
	AbandonedPipe
	_ // what only the root knows
	_
	AbandonedTerminal
)

// A Deadline says which deadline passed.
type Deadline int

// The deadlines.
const (
	DeadlineOption   Deadline = iota // the timeout of the options
	DeadlineSet                      // the timeout that SetTimeout has set
	DeadlineContext                  // of the context
	DeadlineCommands                 // of the command's own context
)
