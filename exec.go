// Package safeexec runs external commands that are guaranteed to end.
//
// It wraps os/exec: [Run] takes an [exec.Cmd] that was not started and sees it through. A timeout is
// mandatory. When it passes, or the context is canceled, Run asks the whole process tree to end and
// then kills it, not the child alone. It also ends background processes that a command leaves behind.
// It always drains output, keeps a bounded amount in memory, and waits for a bounded time,
// whatever holds the pipe. The error says what went wrong; the [Result] holds all that is known, and for
// a command that was ended by force the [Report] says what it was blocked in.
//
// # What Run promises
//
// Run returns within the time that [Bound] computes: the timeout plus [ReportBound], the time of
// [WithDiagnosticSignal] if there is one, linger, grace period, kill timeout, drain timeout, 5 s for
// looks at the tree, and less for what few runs have, listed there; whatever the command, its
// descendants, a dead file system under Dir or the program's path, or the caller's own Reader and
// Writers do. When it returns, the command has been reaped, no process of its tree is alive (a zombie is
// not alive), and no goroutine and no descriptor of the run is left. All output that the tree wrote was
// delivered, or is counted as dropped. No process outside the tree got a signal.
//
// [WithBackground] waits for background processes, or leaves them alive, instead of ending them. Those left
// alive are in the Result; [LeftPipes] says how to release their pipes.
//
// The Result reports what Run could not do: survivors in uninterruptible sleep, a Reader or Writer that never
// returned, a pipe that a process holds. The kernel locks a pipe while it copies from or to the memory of a
// process, and memory of a file on a dead file system never comes. Goroutines that can be left behind
// therefore make all calls on a pipe, see [AbandonedPipe].
//
// A run does not break the POSIX locks of the calling program: it opens and closes no file on which the program
// may hold one. The one exception: the first run of a program reads the beginning of its file, and a lock on it
// that another goroutine takes in the microsecond before the close is lost.
//
// # The tree
//
// A tree is the command and all its descendants, in whatever session, group or environment. Several
// [Tracks] recognize them, none of which is enough alone: the session, a mark in a resource limit, a mark
// in the time slice, the parent, the variable SAFEEXEC_RUN, which is added to every command's environment,
// and the cgroup if the run has one. Result.Tracks says which were in force. Run signals a process
// through a pidfd, pidfd_open(2), after checking it again. It freezes a tree that grows while it is
// killed, so that a process that forks faster than a look can find it does not get away.
//
// If a command may try to escape, use [WithContainment]: a cgroup, which is exact, or a mark that is set
// before the first instruction. Without either, nothing starts.
//
// [KillTree] ends the tree of a process that another program started. If orphans become children of this
// process, see [SetSubreaper], a run reaps those of its tree.
//
// # Descriptors
//
// A command gets its standard streams and its ExtraFiles, and nothing else: before each start, Run marks
// close-on-exec what this process inherited or a C library opened. The mark stays, and also counts for
// commands that are started without safeexec; the Result lists the new marks. The jobserver of make is
// exempt; [WithFDs] passes on other descriptors, and [WithFDPolicy] reports or refuses them instead. A
// descriptor that a thread opens without close-on-exec between the mark and the clone is inherited;
// [WithFDProof] excludes that. [AuditFDs] and [AuditStdio] look at the descriptors of this process.
//
// # Terminals
//
// A command has no terminal, since it leads a session of its own. [WithTerminal] lends it the terminal of
// this process, takes it back when the tree has ended, and restores its modes after a kill. [WithPTY] gives
// it a terminal of its own and captures its output.
//
// # What it does not promise
//
// Run does not recognize a process that deliberately removes every mark of its tree at once, unless the
// run has a cgroup and the process may not write to another; nor one that another program starts on
// request, as systemd-run, docker and at do. If such a process holds an output pipe, Run names it as a
// [Holder] and returns all the same. A file system that dies between the look at the program and its
// execution can freeze the start, as it does with os/exec, and so can a listener of fanotify(7)
// that never answers. A file on a dead file system that this process has open can hold up the start as
// well: exec closes the child's copy of it. Run reports processes that it cannot kill, in
// uninterruptible sleep, and a command whose zombie a tracer holds, ptrace(2).
//
// # Platforms
//
// Linux is the platform. On macOS, FreeBSD, OpenBSD and NetBSD the tree is the process group: Run ends
// it but does not prove it empty, names no holders, and always ends background processes. On other
// systems every call returns [ErrUnsupported].
//
// From the first command on, the process keeps open /dev/null, /proc/loadavg, the Go runtime's poller,
// and at most 16 epoll instances that later commands reuse. While commands run, for a second after each
// start, a timer reads the PID that the kernel gave out last, twice in the time that it would take to
// use up all PIDs: every 30 ms with 32 768 PIDs on two CPUs, every second with 4 million.
package safeexec

import (
	"context"
	"io"
	"os/exec"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/redact"
)

// Run starts cmd, waits until it and its process tree have ended, and returns what is known.
//
// The error is nil if cmd exited with code 0 by itself and its output was delivered. It is exactly
// an *[exec.ExitError] if cmd failed and nothing else went wrong, and an *[Error] otherwise; match the
// errors of this package with [errors.Is]. Without a deadline on ctx and without [WithTimeout] it is
// [ErrNoTimeout], before anything starts.
//
// Run accepts any command that was not started, also one of [exec.CommandContext], whose context
// then ends the run like ctx does, unless you set Cancel to nil. Cancel itself is never called, and
// WaitDelay is ignored. The fields mean what they mean to os/exec, except that a nil Stdout or Stderr is captured
// into the Result, at most [DefaultOutputLimit] bytes each (see [WithOutputLimit]), and that the
// command leads a session of its own, so that a program that asks the terminal for a password fails
// instead of waiting. Run therefore drops SysProcAttr.Setpgid, and refuses Pgid, Foreground and Ptrace.
// [WithTerminal] is for programs that should ask. Run sets cmd.Process and cmd.ProcessState as os/exec
// does; it does not change the other fields, and the caller must not until Run returns.
//
// Run may be called from any number of goroutines, with a Cmd each.
func Run(ctx context.Context, cmd *exec.Cmd, opts ...Option) (Result, error) {
	r, err := begin(ctx, cmd, opts)
	if err != nil {
		err = r.refuse(err)
		r.endObserving(err)
		return r.result, err
	}
	r.live()
	err = r.outcome()
	return r.result, err
}

// Output is like Run but returns the standard output. If that is longer than the output limit, Output
// returns its beginning and its end, with an error that matches [ErrOutputLimit]. The Stderr of an
// *exec.ExitError holds the standard error, if cmd.Stderr is nil.
func Output(ctx context.Context, cmd *exec.Cmd, opts ...Option) ([]byte, error) {
	if cmd != nil && cmd.Stdout != nil {
		return nil, &ConfigError{Name: "Stdout", Reason: "is set already"}
	}
	res, err := Run(ctx, cmd, append(opts[:len(opts):len(opts)], completeOption{})...)
	return res.Stdout.Bytes(), err
}

// CombinedOutput is like Run but returns standard output and standard error in the order in which they
// were written. If they are longer than the output limit, it returns the beginning and the end, with an
// error that matches [ErrOutputLimit].
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

// Start starts cmd and returns at once. From then on the run is supervised as by [Run]: without a call
// of Wait the timeout holds all the same and nothing is left, with one exception: Wait closes what
// StdinPipe, StdoutPipe and StderrPipe have opened, and, if there are such pipes, ends the goroutine with
// which os/exec watches the context of exec.CommandContext. The error says why nothing was started.
// While Dir or the program's file does not answer, Start waits; only the context and the timeout end that.
func Start(ctx context.Context, cmd *exec.Cmd, opts ...Option) (*Process, error) {
	r, err := begin(ctx, cmd, opts)
	if err != nil {
		err = r.refuse(err)
		r.endObserving(err)
		return nil, err
	}
	p := &Process{run: r, done: make(chan struct{}), pipes: r.life.Streams.OutputPipes()}
	r.life.Lent = make(chan struct{})
	go func() {
		defer close(p.done)
		r.live()
		if r.life.Release() && r.observed != nil {
			p.conclude()
		}
	}()
	<-r.life.Lent // from now on the caller may do with cmd.Process what they like
	return p, nil
}

// A run is one command from the start to the end, as the caller sees it: what the options say, and what becomes of the
// facts. The engine has all else.
type run struct {
	life engine.Run
	cfg  config
	ctx  context.Context
	cmd  *exec.Cmd

	observed observation // nil without observers

	teeLock, linesLock *sync.Mutex // of Writers and the function that two streams share; nil where they do not

	args      []string // by begin: the command line to be redacted; nil without WithRedact
	redactErr error    // by redact
	abandoned int      // how many of the facts are in the result
	result    Result   // by fill, but for what begin sets
}

// begin does everything up to a running command. On error nothing runs and nothing is left open; after a
// configuration error cmd is unchanged and can be used again.
func begin(ctx context.Context, cmd *exec.Cmd, opts []Option) (*run, error) {
	now := time.Now()
	r := &run{ctx: ctx, cmd: cmd}
	r.result = Result{Program: programName(cmd), ExitCode: -1, Times: Times{Started: now}}
	if !engine.Supported {
		return r, ErrUnsupported
	}
	if err := r.cfg.resolve(ctx, cmd, opts); err != nil {
		return r, err
	}
	if r.cfg.redact != nil {
		r.args = redact.Shortened(cmd.Args)
	}
	if err := r.beginObserving(); err != nil {
		return r, err
	}
	r.life.Facts.Program, r.life.Facts.Started = r.result.Program, now
	over := false
	defer func() {
		if !over { // the caller's code that the start calls, or a fake's, has panicked, or ended the goroutine
			r.endObserving(errUnfinished)
		}
	}()
	err := r.life.Begin(ctx, cmd, &r.cfg.Config, r)
	over = true
	if err != nil {
		return r, join(r.named(err)...)
	}
	r.observed.started(r.life.Facts.PID)
	return r, nil
}

// live sees the command through to its end.
func (r *run) live() {
	over := false
	defer func() {
		if !over { // the caller's code that the run calls has panicked, or ended the goroutine
			r.fill()
			r.endObserving(errUnfinished)
		}
	}()
	r.life.Supervise()
	if r.life.Facts.End == nil {
		r.fill()
	}
	r.redact()
	over = true
}

// AddEnv is that of the engine's Host, and so are those that follow.
func (r *run) AddEnv(cmd *exec.Cmd) { r.observed.addEnv(cmd) }

// Retried tells the observers.
func (r *run) Retried(err error) { r.observed.retried(err) }

// BeforeSignals tells the observers.
func (r *run) BeforeSignals(cause engine.Cause) { r.observed.ending(Cause(cause)) }

// Settings returns the settings that a fake gets.
func (r *run) Settings() any { return r.cfg.settings() }

// LastLine returns what writes the last line to a Writer; nil if nothing is to be done.
func (r *run) LastLine(w io.Writer) func() error { return lastLine(w) }

// Command is [exec.Command], for code in which a linter flags that one. Pass what it returns to [Run], [Start],
// [Output] or [CombinedOutput], which bound it.
func Command(name string, args ...string) *exec.Cmd { return exec.Command(name, args...) }
