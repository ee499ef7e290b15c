// Package safeexec runs external commands that are guaranteed to end.
//
// It wraps os/exec: [Run] takes an [exec.Cmd] that was not started and sees it through. A timeout is
// mandatory. When it passes, or the context is canceled, the whole process tree is asked to end and
// then killed, not the child alone. Background processes that a command leaves behind are ended as
// well. Output is always drained, kept in bounded memory, and never waited for without a bound,
// whoever holds the pipe. What went wrong is in the error, and all that is known in the [Result]: for
// a command that was ended by force also the [Report], which says what it was blocked in.
//
// # What Run promises
//
// Run returns within a sum of bounds that [Bound] tells: the timeout plus [ReportBound], the time of
// [WithDiagnosticSignal] if there is one, linger, grace period, kill timeout, drain timeout and 1.25 s for
// looks at the tree; whatever the command, its descendants, a dead file system under Dir or the program's path, or
// the caller's own Reader and Writers do. When it returns, the command has been reaped, no process of its tree is
// alive (a zombie is not alive), and no goroutine and no descriptor of the run is left. All output that the tree
// wrote was delivered, or is counted as dropped. No process outside the tree got a signal.
//
// [WithBackground] can have background processes waited for, or left alive, instead of ended. What is
// left of a run that leaves some is in the Result as well, and how to release it: see [LeftPipes].
//
// What Run could not do is in the Result: survivors in uninterruptible sleep, a Reader or Writer that never
// returned, a pipe that a process holds. The kernel locks a pipe while it copies from or to the memory of a
// process, and memory of a file on a dead file system never comes: all calls on a pipe are therefore made by
// goroutines that can be left behind, see [AbandonedPipe].
//
// A run takes nothing from its host: it opens and closes no file that the host may hold a POSIX lock on,
// with one exception: the first time that a program is run its beginning is read, and a lock on it that another
// goroutine takes in the microsecond before the close is lost.
//
// # The tree
//
// A tree is the command and all its descendants, in whatever session, group or environment. They are
// told from all other processes by several [Tracks], each of which has a hole: a session, a mark in a
// resource limit, a mark in the time slice, the parent, and the variable SAFEEXEC_RUN, which every
// command finds in its environment besides its own. Result.Tracks says which were in force. A process
// is signaled through a pidfd, pidfd_open(2), after it was asked again; and a tree that grows while it is
// killed is frozen first, so that what forks faster than it can be found does not get away.
//
// Who can not rely on a command's good will asks for [WithContainment]: a cgroup, which is exact, or a
// mark that is set before the first instruction; or else nothing is started.
//
// [KillTree] does that to a process that somebody else has started. Where orphans become children of this
// process, see [SetSubreaper], those of a tree are reaped with it.
//
// # Descriptors
//
// A command gets its standard streams and its ExtraFiles, and nothing else: what this process was
// itself born with, or a C library opened, is marked close-on-exec before each start, for good and
// for commands that are started without safeexec as well. What was newly marked is in the Result.
// The jobserver of make is left; [WithFDs] passes on others, and
// [WithFDPolicy] reports or refuses instead. A thread that opens a descriptor without close-on-exec
// between the mark and the clone has it inherited; [WithFDProof] excludes that. [AuditFDs] and
// [AuditStdio] look at the descriptors of this process.
//
// # Terminals
//
// A command has no terminal, since it leads a session of its own. [WithTerminal] lends it the one that
// this process has, takes it back when the tree has ended, and puts it in order after a kill.
//
// # What it does not promise
//
// A process that on purpose sheds every mark of its tree at once is no longer of it, unless the run
// has a cgroup and the process may not write to another; and so is one that somebody else starts on
// request, as systemd-run, docker and at do. If it holds an output pipe, it is named as a [Holder]
// and Run returns all the same. A file system that dies between the look at the program and its
// execution can freeze the start, as it does with os/exec, and so can a listener of fanotify(7)
// that is asked for permission and never answers. A file on a dead file system that this process
// itself has open can hold up the start as well: the child's copy of it is closed by its exec.
// Processes that cannot be killed, in uninterruptible sleep, are reported, and so is a command
// whose zombie a tracer holds, ptrace(2).
//
// # Platforms
//
// Linux is the platform. On macOS, FreeBSD, OpenBSD and NetBSD the tree is the process group, ended
// but not proved empty, holders are not named, and background processes are always ended. On others
// every call returns [ErrUnsupported].
//
// Some things are kept open for the life of the process once the first command ran: /dev/null,
// /proc/loadavg, the Go runtime's poller, and at most 16 epoll instances that later commands
// reuse. For a second after a command was started, while commands run, a timer reads which PID
// was given out last, twice in the time in which all could be used up: each 30 ms with 32 768 PIDs on two
// CPUs, each second with 4 million.
package safeexec

import (
	"context"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/diagnose"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/guard"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
	"github.com/seed841d8200/safeexec/internal/terminal"
)

// Run starts cmd, waits until it and its process tree have ended, and returns what is known.
//
// The error is nil if cmd exited with code 0 by itself and its output was delivered. It is exactly
// an *[exec.ExitError] if cmd failed and nothing else is to be said, and an *[Error] otherwise; the
// errors of this package are matched with [errors.Is]. Without a deadline on ctx and without
// [WithTimeout] it is [ErrNoTimeout], before anything starts.
//
// Run accepts any command that was not started, also one of [exec.CommandContext], whose context
// then ends the run like ctx does, unless its Cancel was set to nil: Cancel and WaitDelay are not
// used. The fields mean what they mean to os/exec, except that a nil Stdout or Stderr is captured
// into the Result, at most [DefaultOutputLimit] bytes each (see [WithOutputLimit]), and that the
// command leads a session of its own, so that a program that asks the terminal for a password fails
// instead of waiting. SysProcAttr.Setpgid is therefore dropped; Pgid, Foreground and Ptrace are
// refused. [WithTerminal] is for programs that are to ask. cmd.Process and cmd.ProcessState are set
// as by os/exec; the other fields are not changed and must not be until Run returns.
//
// Run may be called from any number of goroutines, with a Cmd each.
func Run(ctx context.Context, cmd *exec.Cmd, opts ...Option) (Result, error) {
	r, err := begin(ctx, cmd, opts)
	if err != nil {
		err = r.refuse(err)
	} else {
		r.live()
		err = r.outcome()
	}
	r.endObserving(err)
	return r.result, err
}

// Output is Run that returns the standard output. If it is longer than the output limit, its
// beginning and its end are returned, with an error that matches [ErrOutputLimit]. The Stderr of an
// *exec.ExitError holds the standard error, if cmd.Stderr is nil.
func Output(ctx context.Context, cmd *exec.Cmd, opts ...Option) ([]byte, error) {
	if cmd != nil && cmd.Stdout != nil {
		return nil, &ConfigError{Name: "Stdout", Reason: "is set already"}
	}
	res, err := Run(ctx, cmd, append(opts[:len(opts):len(opts)], completeOption{})...)
	return res.Stdout.Bytes(), err
}

// CombinedOutput is Run that returns standard output and standard error in the order in which they
// were written. If they are longer than the output limit, the beginning and the end are returned,
// with an error that matches [ErrOutputLimit].
func CombinedOutput(ctx context.Context, cmd *exec.Cmd, opts ...Option) ([]byte, error) {
	switch {
	case cmd != nil && cmd.Stdout != nil:
		return nil, &ConfigError{Name: "Stdout", Reason: "is set already"}
	case cmd != nil && cmd.Stderr != nil:
		return nil, &ConfigError{Name: "Stderr", Reason: "is set already"}
	}
	res, err := Run(ctx, cmd, append(opts[:len(opts):len(opts)], completeOption{}, mergeOption{})...)
	return res.Stdout.Bytes(), err
}

// Start starts cmd and returns at once. Its whole life is supervised from then on, as by [Run]: a
// caller who never calls Wait has the timeout all the same, and nothing is left, with one exception:
// Wait closes what StdinPipe, StdoutPipe and StderrPipe have opened, and ends the goroutine with which os/exec
// watches the context of exec.CommandContext if there are such pipes. The error says why nothing was
// started. While Dir or the program's file does not answer, Start waits: only the context and the timeout
// end that.
func Start(ctx context.Context, cmd *exec.Cmd, opts ...Option) (*Process, error) {
	r, err := begin(ctx, cmd, opts)
	if err != nil {
		err = r.refuse(err)
		r.endObserving(err)
		return nil, err
	}
	p := &Process{run: r, done: make(chan struct{}), pipes: r.streams.OutputPipes()}
	r.lent = make(chan struct{})
	go func() {
		defer close(p.done)
		r.live()
		if !r.pipesOut {
			r.release()
			if r.observed != nil {
				p.conclude()
			}
		}
	}()
	<-r.lent // from now on the caller may do with cmd.Process what they like
	return p, nil
}

// A run is one command from the start to the end. All of it belongs to the goroutine that calls
// live, except the atomics.
type run struct {
	engine.Ending        // of its tree
	actor         *actor // in place of the process, for a test; else nil

	cfg config
	ctx context.Context
	cmd *exec.Cmd // the caller's
	own *exec.Cmd // the copy of it that is started; nil once there is nothing to release

	// Set by begin.
	process  *os.Process
	deadline time.Time     // of the whole run
	exitFD   int           // the leader's pidfd while the poller watches it, else -1
	lent     chan struct{} // by Start: closed once the pidfd is lent
	streams  engine.Streams
	unwatch  func() bool
	unforce  []func() bool // of the contexts of WithForce
	marks    proctree.Mark
	terminal *terminal.Terminal // lent to the command; else nil
	stops    chan struct{}      // closed by watchStops at its end
	noCgroup error              // why there is none, where the command is stopped instead

	ward       *guard.Ward  // nil without WithGuard
	leftPlaces int          // reserved for pipes that may be left
	observed   *observation // nil if nobody observes
	fake       seam.Fake    // of a test, which answers in place of the kernel; else nil

	// From other goroutines, which wake the poller after writing them.
	stopRequested atomic.Bool   // by Process.Stop and Kill
	killRequested atomic.Bool   // by Process.Kill, before stopRequested
	newTimeout    atomic.Int64  // by Process.SetTimeout: since Times.Started; 0 for none, timeoutSettled once it is late
	cmdCanceled   atomic.Bool   // by the context of exec.CommandContext
	exitSeen      atomic.Bool   // by the fallback without a pidfd, and by waits
	stopped       atomic.Int32  // by watchStops: the signal that stopped the leader, until goOn
	callerSent    atomic.Uint64 // by Process.Signal: the signals sent, as a set of signals

	enlisted  enlistment
	questions engine.Questions // of Process, which wakes the poller as well

	teeLock, linesLock *sync.Mutex // of Writers and the function that two streams share; nil where they do not

	missing  string // by examine: the interpreter that is not there
	limitErr error  // by spawn: limits could not be set on a command that runs

	args      []string // by begin: the command line to be redacted; nil without WithRedact
	redactErr error    // by redact

	timeoutSeen int64 // by reason: the last newTimeout that deadline was made of

	// Written by the steps of live.
	mark     time.Time // when the present phase began
	ctxErr   error     // ctx.Err() and its cause, if the context is why the run was ended
	ctxCause error
	inquiry  *diagnose.Inquiry  // by diagnose, or by drain if a pipe is held
	snapshot *diagnose.Snapshot // that the report was made from
	state    *os.ProcessState   // by reap
	waitErr  error              // by reap
	pipesOut bool               // by begin: the caller may be at a pipe that release closes
	left     bool               // by background: the tree lives on, and is signaled no more
	held     [3]bool            // by drain: this pipe was left with a writer
	holders  *holderLook        // by drain: the last look for them
	atCause  atCause            // by observe or background
	over     bool               // live has come to its end
	result   Result
}

// live is the life of a run after its start. The order is the heart of the package: everything that
// sends a signal comes before reap, because the leader, alive or a zombie, pins the numbers of its
// process, its group and its session; from reap on they may belong to somebody else.
//
// What can happen at the same time, and why each order ends the same way:
//
//   - Exit and deadline: observe looks once more before it believes the deadline, and exited comes
//     first. A command that made it is never reported as timed out.
//   - Exit, then the deadline, cancellation or Stop during linger or drain: the command's own status
//     stands. The linger is cut short, and the drain timeout counts from then at the latest. While the
//     background is waited for, by BackgroundWait, they are what ends the tree, and the cause.
//   - Exit, and the background is left: nothing from there on sends a signal. What is left may end,
//     fork or write at any time, so that its pipe is read as far as it was filled at one look.
//   - Cancel during stop: the ladder is under way and is not begun again.
//   - Kill, or the end of a context of WithForce: the grace is over, whatever began it. A rung below SIGKILL is not
//     begun, and one that is waited for is cut short. Kill is a Stop besides, and is the cause if nothing was before.
//   - SetTimeout and deadline: one compare-and-swap decides. Either the run goes on, or SetTimeout says that it came
//     too late.
//   - The leader dies of a signal while stop waits: it stays a zombie until reap, so that group
//     signals go on meaning our group.
//   - A descendant is born while its parent is being killed: Live finds it at the next look, and
//     a look that finds nobody is the only end of stop before its bound.
func (r *run) live() {
	if r.actor != nil {
		r.act()
		return
	}
	// The pidfd is lent for the whole life: the caller has cmd.Process, and may Wait for it or Release it.
	if !r.Tree.LendPidfd(r.liveWith) {
		r.liveWith(-1)
	}
}

// liveWith is live with the leader's pidfd, -1 where there is none.
func (r *run) liveWith(pidfd int) {
	defer r.rescue()
	if r.lent != nil {
		close(r.lent)
	}
	r.watchExit(pidfd)
	r.streams.Begin()
	r.observe()
	if r.result.Cause == CauseExited {
		r.background()
	}
	if r.result.Cause != CauseExited {
		r.observed.ending(r.result.Cause)
		r.diagnose()
		r.sendDiagnostic()
	}
	if !r.Empty && !r.left {
		r.stop()
	}
	r.returnTerminal()
	r.drain()
	r.reap()
	r.seal()
	r.redact()
	r.over = true
}

// rescue ends the command where live did not come to its end: the caller's code that the run calls, a
// buffer or the context, has panicked or ended the goroutine. Nothing would supervise it any more.
func (r *run) rescue() {
	if r.over {
		return
	}
	r.streams.Abandon()
	r.streams.CloseAll()
	until := time.Now().Add(r.cfg.kill)
	r.SignalTree(syscall.SIGKILL, until)
	r.AwaitEmpty(until, syscall.SIGKILL)
	r.returnTerminal()
	r.reap()
	r.seal()
	r.endObserving(errUnfinished)
}

// seal ends what others may ask, and puts what is kept in order: from now on it is only read.
func (r *run) seal() {
	r.questions.Close()
	r.streams.Seal()
}

// observe waits for the leader's exit or for a reason to end it.
func (r *run) observe() {
	for {
		r.result.Cause = r.reason(time.Now())
		if r.result.Cause != CauseNone && !r.Exited {
			r.Step(engine.Past) // this goroutine may come late to an exit that came in time
			r.Exited = r.Exited || r.exitFD < 0 && r.leaderExited()
		}
		if r.Exited {
			r.result.Cause = CauseExited
		}
		if r.result.Cause != CauseNone && r.settle(r.result.Cause) {
			r.noteCause()
			r.result.Times.Run = r.lap()
			return
		}
		r.Step(r.nextBound())
		r.goOn()
	}
}

// stop climbs the ladder until the tree is empty or the ladder ends. The grace period watches the
// tree and not the leader: a leader that goes at once must not cost its workers their time.
func (r *run) stop() {
	r.End(r.cfg.rungs())
	r.result.Times.Stop = r.lap()
}

// lap ends a phase and returns how long it took.
func (r *run) lap() time.Duration {
	now := time.Now()
	d := now.Sub(r.mark)
	r.mark = now
	return d
}

// Command is [exec.Command], for code in which a linter flags that one: what it returns is to be given to [Run] or
// its kin, which bound it.
func Command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }
