package safeexec

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// A Cause says why a run ended.
type Cause int

// The causes.
const (
	CauseNone         Cause = iota // it has not ended
	CauseExited                    // the command ended by itself (BackgroundWait: its tree), or by a signal not ours
	CauseTimeout                   // the timeout or the context's deadline
	CauseCanceled                  // the context, or that of exec.CommandContext, was canceled
	CauseIdle                      // no output for the idle timeout
	CauseOutputLimit               // more output than the limit, with OverflowStop
	CauseStopped                   // Process.Stop, Process.Kill or StopAll
	CauseStartFailed               // nothing was started
	CauseLimits                    // limits could not be set on a command that runs
	CauseWriterFailed              // a Writer failed, with WithStopOnWriteError
)

var causes = [...]string{
	"none", "exited", "timeout", "canceled", "idle", "output limit", "stopped", "start failed", "limits",
	"writer failed",
}

// String returns the cause in words.
func (c Cause) String() string {
	if c < 0 || int(c) >= len(causes) {
		return fmt.Sprintf("Cause(%d)", int(c))
	}
	return causes[c]
}

// A Signaler says where the signal came from that ended the command.
type Signaler int

// The signalers.
const (
	SignalerNone     Signaler = iota // no signal ended the command
	SignalerSafeexec                 // this run sent it, for the reason that Cause names
	SignalerCaller                   // it came through Process.Signal
	SignalerOther                    // anybody else: the command itself, another process, the kernel
)

var signalers = [...]string{"none", "safeexec", "caller", "other"}

// String returns the signaler in words.
func (s Signaler) String() string {
	if s < 0 || int(s) >= len(signalers) {
		return fmt.Sprintf("Signaler(%d)", int(s))
	}
	return signalers[s]
}

// A Result is what is known about a run after its end. It is filled on every path, also beside an
// error: what was never reached is zero, and ExitCode is -1.
type Result struct {
	Program    string         // the last element of the program's path
	Command    []string       // the arguments, program first; only with WithRedact
	PID        int            // of the leader; 0 if nothing was started
	Cause      Cause          // why the run ended
	ExitCode   int            // -1 unless the leader exited and its status is known
	Signal     syscall.Signal // that ended the leader; 0 if none
	SignaledBy Signaler       // who sent it
	CoreDumped bool

	// State is the leader's state as os/exec has it; nil if the leader was not reaped by us.
	State *os.ProcessState

	Stdout Stream // empty for a stream that is an *os.File
	Stderr Stream

	// Killed lists the processes of the tree, other than the leader, that were sent a signal and are
	// gone, the oldest first: of the terminating signal, of SIGKILL, or by themselves at that moment. A process
	// born between the look for members and a signal to the leader's group, some microseconds later, can die of
	// that signal unnamed.
	Killed    []ProcessInfo
	Survivors []ProcessInfo // processes of the tree alive at the end
	Holders   []Holder      // processes outside the tree that hold an output pipe
	// HoldersPartial says that not every process was looked at for Holders: a look takes at most a
	// tenth of a second. A pipe can be held by a process that is not named.
	HoldersPartial bool
	Left           []ProcessInfo // processes of the tree that BackgroundLeave left alive, by PID
	LeftPipes      []LeftPipe    // output pipes that they, or Holders, had open; what they write is discarded
	Abandoned      []Abandoned   // what of ours was left behind, and what releases it

	Tracks Tracks // how the processes of the tree were told from others
	// Hidden is how many processes there were at the end that may be of the tree or not: of another
	// user, with nothing of them to be seen, as under the option hidepid of proc(5).
	Hidden int

	Containment Containment // what was in force
	// OOMKilled says that the kernel killed a process of the tree for want of memory, also where the
	// command succeeded all the same. It is known in a cgroup that has the memory controller.
	OOMKilled bool
	// LeftCgroup is the directory of the run's cgroup, if it could not be removed because of
	// processes in it, or because the command has made more below it than can be removed in a tenth
	// of a second; [RemoveStaleCgroups] does that.
	LeftCgroup string

	Usage Usage // what the tree has used, as far as is known

	// Descriptors that the command would have inherited undeclared, see [WithFDPolicy]. FDMark names
	// in MarkedFDs what this start was the first to mark; to look costs more than to mark, so that
	// looks take at most a thousandth of the time, and what is found marked is not named again.
	MarkedFDs   FDs
	LeakedFDs   FDs   // left as they were: FDReport and FDRefuse
	DeclaredFDs FDs   // left because the environment declares them; named when there was a look
	FDsProved   bool  // by WithFDProof: the command got nothing but what was declared
	FDErr       error // why not everything is marked or known; nil if it is

	// Report says what the tree was blocked in when it was ended by a timeout, cancellation, silence
	// or [Process.Stop], taken before the first signal; or what the holders of a pipe do. It is nil
	// for other runs, and except on Linux.
	Report *Report

	// ObserverErr says that a func of an [Observer] panicked.
	ObserverErr error

	// GuardRestarts is how often the guard's helper died during the run, with [WithGuard]. Had this process died
	// before it was replaced, nothing would have ended the tree.
	GuardRestarts int

	StartRetries int // how often the start was tried again: EAGAIN, ETXTBSY
	Times        Times

	refusal int // the shell's number for a program that could not be started; 0 for none
}

// Times says when a run began and how long each of its phases took.
type Times struct {
	Started time.Time     // when Run or Start was called
	Start   time.Duration // until the command was started
	Run     time.Duration // until it exited, with BackgroundWait its tree too, or was to be ended
	Report  time.Duration // until it was known why it is stuck
	// Diagnostic is until the tree had the time to say what it was doing, with [WithDiagnosticSignal].
	Diagnostic time.Duration
	Stop       time.Duration // until its tree was gone, linger and grace period included
	Drain      time.Duration // until the last output was delivered
	Total      time.Duration
}

// A ProcessInfo names a process for good: a PID alone is reused.
type ProcessInfo struct {
	PID        int
	StartTicks uint64 // clock ticks since boot, field 22 in proc_pid_stat(5); 0 if unreadable
	Name       string // the kernel's name of it, at most 15 bytes, chosen by the process; may be empty
	// BootID is /proc/sys/kernel/random/boot_id of the boot that StartTicks counts from. Only [Process.Info] has it, for
	// records that outlive the machine's boot.
	BootID string `json:",omitempty"`
}

// A Holder is a process that holds a pipe of the run.
type Holder struct {
	ProcessInfo
	FDs []int // its descriptors that are the pipe
}

// An Abandoned is something of ours that outlives the run. Each ends by itself once what it waits
// for happens.
type Abandoned int

// What can be left behind.
const (
	// AbandonedStart is a goroutine in a call on Dir or the program's file; the file system's
	// answer releases it.
	AbandonedStart Abandoned = iota + 1
	// AbandonedStdin is a goroutine in Read of the caller's Reader; its return releases it.
	AbandonedStdin
	// AbandonedStdout is a goroutine in Write of the caller's Writer; its return releases it.
	AbandonedStdout
	// AbandonedStderr is the same for standard error.
	AbandonedStderr
	// AbandonedLeader is a goroutine and a thread that will reap the leader; its death releases them.
	AbandonedLeader
	// AbandonedReport is a goroutine and a thread that look at a process whose memory cannot be
	// read at the moment, proc_pid_cmdline(5); they end with it.
	AbandonedReport
	// AbandonedLook is the same for the search for the tree's processes.
	AbandonedLook
	// AbandonedPipe is a goroutine and a thread in a call on a pipe of the command, and the pipe's
	// descriptor. A process holds the pipe: it reads or writes with memory that does not answer, as of a
	// file on a dead file system, and the kernel has the pipe locked meanwhile. That process's death, or the
	// memory's answer, releases them.
	AbandonedPipe
	// AbandonedRedact is a goroutine in the function of WithRedact; its return releases it.
	AbandonedRedact
	// AbandonedObserver is a goroutine in a call of an [Observer], or one for each of several; its return releases it.
	AbandonedObserver
	// AbandonedTerminal is a goroutine and a thread in a call on the terminal, and its descriptor. A process holds the
	// terminal, for instance while it changes the line discipline (TIOCSETD) and another reads; its death
	// releases them. Until then no other run gets the terminal, and its modes may not be what they were.
	AbandonedTerminal
)

var abandoned = [...]string{
	"", "start", "stdin reader", "stdout writer", "stderr writer", "leader", "report", "look", "pipe", "redact",
	"observer", "terminal",
}

// String returns what was left behind.
func (a Abandoned) String() string {
	if a <= 0 || int(a) >= len(abandoned) {
		return fmt.Sprintf("Abandoned(%d)", int(a))
	}
	return abandoned[a]
}

// ShellCode returns what a shell would put into $?: the exit code, 128 plus the signal's number, 127
// for a program that was not found, 126 for one that was found and could not be executed. It is -1
// where a shell has no number for it: nothing was started for another reason, or the status is
// unknown. A timeout has no number of its own: see [Result.TimeoutCode].
func (r Result) ShellCode() int {
	switch {
	case r.Signal != 0:
		return 128 + int(r.Signal)
	case r.refusal != 0:
		return r.refusal
	default:
		return r.ExitCode
	}
}

// TimeoutCode returns what timeout(1) would exit with: 124 for a run that its timeout ended, 125
// where [Result.ShellCode] has no number, else that.
func (r Result) TimeoutCode() int {
	code := r.ShellCode()
	switch {
	case r.Cause == CauseTimeout:
		return 124
	case code < 0:
		return 125
	}
	return code
}

// Success reports whether the leader exited with code 0 by itself.
func (r Result) Success() bool { return r.Cause == CauseExited && r.ExitCode == 0 }

// A Stream is one output of a run.
type Stream struct {
	Total   int64 // bytes that were read
	Dropped int64 // of them, bytes that were not kept, or, of a stream with a Writer of the caller's, not delivered
	Err     error // the first error of the caller's Writer, after which all is dropped, or of the pipe

	data []byte // head, and tail if bytes were dropped in between
	head int    // length of the head
}

// Bytes returns the bytes kept, exactly as they came: all of them, or the first and the last if
// Dropped is not zero. The slice is the Stream's own; it is nil for a stream that was not captured.
func (s Stream) Bytes() []byte { return s.data }

// Head returns the first of the bytes kept, and Tail the last; Tail is empty if nothing is missing
// in between.
func (s Stream) Head() []byte { return s.data[:s.head:s.head] }

// Tail returns the bytes kept after those that were dropped.
func (s Stream) Tail() []byte { return s.data[s.head:] }

// String returns the text kept without the newlines at its end, as $(command) does in a shell. Where
// bytes were dropped, a line says how many; characters that the cut would split count as dropped.
func (s Stream) String() string {
	if s.Dropped == 0 || len(s.data) == 0 {
		return strings.TrimRight(string(s.data), "\n")
	}
	head, tail := wholeRunes(s.Head(), s.Tail())
	dropped := s.Dropped + int64(len(s.data)-len(head)-len(tail))
	return fmt.Sprintf("%s\n[%d bytes dropped]\n%s", head, dropped, bytes.TrimRight(tail, "\n"))
}

// wholeRunes cuts off what is left of UTF-8 sequences at the end of head and the beginning of tail.
func wholeRunes(head, tail []byte) ([]byte, []byte) {
	for i := len(head) - 1; i >= max(0, len(head)-utf8.UTFMax+1); i-- {
		if utf8.RuneStart(head[i]) {
			if !utf8.FullRune(head[i:]) {
				head = head[:i]
			}
			break
		}
	}
	for i := range min(len(tail), utf8.UTFMax) {
		if utf8.RuneStart(tail[i]) {
			tail = tail[i:]
			break
		}
	}
	return head, tail
}

// The values of a Result are written by their names, in JSON and elsewhere, and read again from them. A value
// that has no name cannot be read.

// MarshalText returns the cause in words.
func (c Cause) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Cause) UnmarshalText(text []byte) error { return readName(c, "cause", causes[:], text) }

// MarshalText returns the signaler in words.
func (s Signaler) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *Signaler) UnmarshalText(text []byte) error {
	return readName(s, "signaler", signalers[:], text)
}

// MarshalText returns the rung's name.
func (c Containment) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (c *Containment) UnmarshalText(text []byte) error {
	return readName(c, "containment", containments[:], text)
}

// MarshalText returns what was left behind.
func (a Abandoned) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Abandoned) UnmarshalText(text []byte) error {
	return readName(a, "abandoned", abandoned[:], text)
}

// MarshalText lists the tracks, separated by commas.
func (t Tracks) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (t *Tracks) UnmarshalText(text []byte) error {
	tracks, unknown := engine.ParseTracks(string(text))
	if unknown != "" {
		return fmt.Errorf("safeexec: no track is called %q", unknown)
	}
	*t = Tracks(tracks)
	return nil
}

// readName sets the value to the index of its name.
func readName[T ~int](to *T, what string, names []string, text []byte) error {
	i := slices.Index(names, string(text))
	if i < 0 {
		return fmt.Errorf("safeexec: no %s is called %q", what, text)
	}
	*to = T(i)
	return nil
}

// Describe says in one sentence how the run ended, for people and for language models: err is what Run returned
// beside the Result. It holds no arguments and no environment, unless [WithRedact] let some of the arguments through.
func (r Result) Describe(err error) string {
	program := r.Program
	if len(r.Command) > 0 {
		program = strings.Join(r.Command, " ")
	}
	if program == "" {
		program = "the command"
	}
	took := span(r.Times.Total)
	var b strings.Builder
	switch {
	case r.PID == 0:
		fmt.Fprintf(&b, "%s was not started", program)
	case r.Cause == CauseExited && r.Signal != 0:
		fmt.Fprintf(&b, "%s was killed by a signal (%v) from elsewhere after %s", program, r.Signal, took)
	case r.Cause == CauseExited && r.ExitCode == 0:
		fmt.Fprintf(&b, "%s succeeded in %s", program, took)
	case r.Cause == CauseExited && r.ExitCode > 0:
		fmt.Fprintf(&b, "%s failed with exit status %d after %s", program, r.ExitCode, took)
	case r.Cause == CauseExited:
		fmt.Fprintf(&b, "%s ended after %s", program, took)
	default:
		fmt.Fprintf(&b, "%s was ended after %s (%v)", program, took, r.Cause)
	}
	if n := len(r.Killed); n > 0 && r.Cause == CauseExited {
		fmt.Fprintf(&b, "; %d of its background processes were killed", n)
	}
	if n := len(r.Left); n > 0 {
		fmt.Fprintf(&b, "; %d of its processes were left running", n)
	}
	if n := len(r.Survivors); n > 0 {
		fmt.Fprintf(&b, "; %d of its processes could not be killed", n)
	}
	if n := r.Stdout.Dropped + r.Stderr.Dropped; n > 0 {
		fmt.Fprintf(&b, "; %d bytes of its output were dropped", n)
	}
	if err != nil && (r.PID == 0 || r.Cause != CauseExited) {
		fmt.Fprintf(&b, ": %s", oneLine(err.Error()))
	}
	b.WriteByte('.')
	return b.String()
}
