package safeexec

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// A Process is a command that was started. Its methods may be called from any goroutine, any number
// of times, also after its end.
type Process struct {
	run   *run
	done  chan struct{} // closed by the supervising goroutine, which touches run no more
	pipes []uint64      // inodes of the output pipes, for Report

	once sync.Once // of conclude
	err  error

	naming sync.Mutex
	info   ProcessInfo // by Info
}

// Wait waits for the end of the run and returns what [Run] returns. It needs no bound of its own:
// the run has one.
//
// As with os/exec, the first Wait closes the pipes of StdinPipe, StdoutPipe and StderrPipe, so all
// reading must be over by then, and sets cmd.ProcessState.
func (p *Process) Wait() (Result, error) {
	<-p.done
	p.conclude()
	return p.run.result, p.err
}

// conclude completes the result: in the first Wait, or before it if the run has observers.
func (p *Process) conclude() {
	p.once.Do(func() {
		p.err = errUnfinished
		p.err = p.run.outcome()
	})
}

// Done returns a channel that is closed at the end of the run, when Wait will not block.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID returns the leader's process ID. Once Done is closed the number may belong to another process.
func (p *Process) PID() int { return p.run.life.Facts.PID }

// Signal sends sig to the leader alone. The error is [os.ErrProcessDone] once it has been reaped, or
// has exited and [BackgroundWait] waits for the rest.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
		return p.run.life.Signal(sig)
	}
}

// Stop ends the run as a timeout would, with [ErrStopped], and waits for its end as Wait does: it closes
// the pipes of StdoutPipe and its kin. It changes nothing about a run that is ending or has ended, but
// cuts short what is left of its waiting. [Process.Kill] does not give it a grace period.
func (p *Process) Stop() (Result, error) {
	p.run.life.Stop()
	return p.Wait()
}

// Info identifies the leader for good, also for a later process of this machine: it is a [Target] of [KillTree] that
// no other process matches, before or after the next boot. If the first call comes after the end of the run, it has
// no StartTicks.
func (p *Process) Info() ProcessInfo {
	p.naming.Lock()
	defer p.naming.Unlock()
	if p.info.PID == 0 {
		p.info.PID = p.PID()
		p.ask(func() { p.info = info(engine.Inspect(p.info.PID)) }) // it is not reaped yet
		p.info.BootID = engine.BootID()
	}
	return p.info
}

// ask has the goroutine of the run call f, and waits for that. It reports false if the run has come to its end: f was
// not called and will not be.
func (p *Process) ask(f func()) bool {
	return p.run.life.Ask(f, p.done)
}

// Kill ends the run without a grace period: SIGKILL goes to the whole tree. It is [Process.Stop] with nothing before
// SIGKILL, neither a [Report] nor [WithDiagnosticSignal] nor [WithTermSignal], and cuts short what a timeout,
// cancellation or Stop has begun, which remains the cause then. It returns at once, so that a Writer or a callback
// of the run may call it; [Process.Wait] waits for the end. It changes nothing about a run that has ended.
func (p *Process) Kill() {
	p.run.life.Kill()
}

// SetTimeout gives a run that is under way d from now on, more or less than it had. It replaces [WithTimeout]; a
// deadline of the context stands. With [WithBackground] it counts for what is waited for as well.
//
// The error is a [*ConfigError] if d is not positive, and [os.ErrProcessDone] if the command has exited or is being
// ended: then nothing is changed. Otherwise the old timeout cannot end the run any more.
func (p *Process) SetTimeout(d time.Duration) error {
	if d <= 0 {
		return &ConfigError{Name: "SetTimeout", Reason: "must be positive"}
	}
	if until := sum(time.Since(p.run.life.Facts.Started), d); !p.run.life.SetTimeout(until) {
		return os.ErrProcessDone
	}
	return nil
}

// SignalTree sends sig to all processes of the tree that are found, and not, as [Process.Signal], to the leader alone:
// SIGHUP to have a service read its configuration, SIGSTOP and SIGCONT to have a tree pause. What is born meanwhile
// may be missed. It changes nothing about how the run is ended; [Process.Kill] does that.
//
// The error is [os.ErrProcessDone] if the tree is gone or was left alive, [BackgroundLeave].
func (p *Process) SignalTree(sig syscall.Signal) error {
	if sig <= 0 || sig > engine.MaxSignal {
		return &ConfigError{Name: "SignalTree", Reason: "is no signal"}
	}
	err := os.ErrProcessDone
	p.ask(func() { err = p.run.life.PassOn(sig) })
	return err
}

// A UsageSource says where a figure of a [Usage] is from, and so what it is worth.
type UsageSource int

// The sources.
const (
	UsageUnknown UsageSource = iota // the figure is not known; it is 0
	UsageSeen                       // at least so much: what was reaped, or was seen before it was killed
	UsageExact                      // of the whole tree: the kernel's count for the run's cgroup
)

var usageSources = [...]string{"unknown", "seen", "exact"}

// String returns the source in words.
func (s UsageSource) String() string {
	if s < 0 || int(s) >= len(usageSources) {
		return fmt.Sprintf("UsageSource(%d)", int(s))
	}
	return usageSources[s]
}

// MarshalText returns the source in words.
func (s UsageSource) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *UsageSource) UnmarshalText(text []byte) error {
	return readName(s, "source", usageSources[:], text)
}

// A Usage is what the tree of a run has used. Each figure has its source: a 0 whose source is [UsageUnknown] is none.
//
// A run in a cgroup, see [WithContainment], counts the processor time of all processes that ever were in it, reaped
// or not. Without one it counts what the kernel reports when the command is reaped, wait4(2), which includes the
// children that the command waited for, and theirs: for most commands that is all. Of the rest it counts what it
// reads from the oldest 256 processes right before they are asked to end, or are left, and, with [SetSubreaper], from
// orphans that it reaps. It misses an orphan that ended by itself before that, and what [Process.Kill] ends without
// a grace period.
type Usage struct {
	// User and System are the processor time, in the mode of the program and in the kernel.
	User, System time.Duration
	CPU          UsageSource

	// PeakMemory is in bytes. Seen, it is the most that one process had in memory, VmHWM in proc_pid_status(5). Exact,
	// it is the most that all had together, with their files in the page cache: memory.peak, which
	// [WithMemoryMax] limits; it needs Linux 5.19 and the memory controller.
	//
	// Without that the peak of a small command is not known: it shares the memory of this process between fork and exec,
	// and ru_maxrss of getrusage(2) counts that as its own. A peak is reported if it is more than an eighth above our own,
	// or was seen in /proc.
	PeakMemory int64
	Memory     UsageSource

	// Processes is how many processes there were at least: the command and what looks at the tree found. The kernel
	// does not count them. 0 is unknown.
	Processes int

	// ReadBytes and WrittenBytes are what was fetched from storage, and what is to go there: a page counts when it
	// is first written to (ru_inblock and ru_oublock, proc_pid_io(5)). What comes from the page cache, a pipe, or a file
	// system in memory is not in it. Never exact: they are of what was reaped. A cgroup counts what has reached
	// the devices, twice where one device is on another.
	ReadBytes, WrittenBytes int64
	IO                      UsageSource
}

// CPUTime returns the processor time.
func (u Usage) CPUTime() time.Duration { return u.User + u.System }

// LogValue is what is known, as a group:
//
//	cpu           the processor time
//	cpu_source    seen or exact
//	peak_memory, memory_source
//	processes     if there were more than one
//	read_bytes, written_bytes    unless 0
func (u Usage) LogValue() slog.Value {
	attrs := make([]slog.Attr, 0, 7)
	if u.CPU != UsageUnknown {
		attrs = append(attrs, slog.Duration("cpu", u.CPUTime()), slog.String("cpu_source", u.CPU.String()))
	}
	if u.Memory != UsageUnknown {
		attrs = append(attrs, slog.Int64("peak_memory", u.PeakMemory), slog.String("memory_source", u.Memory.String()))
	}
	for _, n := range []struct {
		name  string
		count int64
		least int64
	}{
		{"processes", int64(u.Processes), 2},
		{"read_bytes", u.ReadBytes, 1},
		{"written_bytes", u.WrittenBytes, 1},
	} {
		if n.count >= n.least {
			attrs = append(attrs, slog.Int64(n.name, n.count))
		}
	}
	return slog.GroupValue(attrs...)
}

func newUsage(t engine.UsageTotal) Usage {
	return Usage{
		User: t.User, System: t.System, CPU: UsageSource(t.CPU),
		PeakMemory: t.Peak, Memory: UsageSource(t.Memory),
		Processes: t.Processes,
		ReadBytes: t.Read, WrittenBytes: t.Written, IO: UsageSource(t.IO),
	}
}

// Usage returns what the tree has used so far: the kernel's count in a cgroup, else what those who live have used, and
// the children that they have waited for. What is read and written is known at the end, when it is that of the
// [Result].
//
// It looks at the tree, as [Process.SignalTree] does, between two steps of the run: that takes some ten microseconds
// and as many for each process of the tree, and milliseconds where thousands of others live. It is done again once
// sixteen times as long has passed; until then Usage returns what the last look has found.
func (p *Process) Usage() Usage {
	var u Usage
	if p.ask(func() { u = newUsage(p.run.life.UsageNow()) }) {
		return u
	}
	<-p.done
	return p.run.result.Usage
}

type ptyOption struct{ rows, cols int }

func (o ptyOption) apply(c *config) { c.pty = &o }

// WithPTY gives the command a pseudo-terminal of its own, of this size in characters, for programs that want one: they
// show colors and progress, ask questions, flush each line, or refuse to work without. [WithTerminal] lends the
// terminal that this process has instead.
//
// The terminal is the command's controlling terminal, /dev/tty, and all its standard streams that the command has no
// other for:
//
//   - What is written to it is one stream, Result.Stdout, captured and bounded as any, or goes to the Writer in
//     cmd.Stdout; lines end with "\r\n", as terminals have it, and what is typed is echoed. Result.Stderr is empty. A
//     Writer or file in cmd.Stderr, other than that in cmd.Stdout, gets standard error by itself.
//   - What cmd.Stdin reads is typed: Ctrl-C in it is an interrupt, and a line is at most 4095 bytes long. At its end
//     Ctrl-D is typed, once on a line of its own, else twice: a program that reads the terminal line by line meets the
//     end of file then, once. To type in answer to what is shown, give it the reading end of an [io.Pipe], and close
//     the other end behind the last answer. Without a Reader there is no input, and a program that asks waits until
//     its time is over; the [Report] says that it "waits for terminal input". A file, such as /dev/null, is passed on,
//     and is not the terminal.
//
// [Process.Resize] changes the size. When the command exits, the kernel sends SIGHUP to what it left in the foreground.
// An interactive shell takes no notice of SIGTERM: [WithTermSignal] with SIGHUP ends it at once.
//
// Run refuses a file in cmd.Stdout, StdinPipe and its kin, WithTerminal, SysProcAttr.Setctty and Noctty, and
// [BackgroundLeave], which would leave processes a terminal without a reader. Without /dev/ptmx the error
// matches [ErrNoTerminal], and on other systems than Linux [ErrUnsupported]; nothing has been started then.
func WithPTY(rows, cols int) Option { return ptyOption{rows, cols} }

func (c *config) checkPTY(cmd *exec.Cmd) error {
	if c.pty == nil {
		return nil
	}
	conflict := func(reason string) error { return &ConfigError{Name: "WithPTY", Reason: reason} }
	switch {
	case !isSize(c.pty.rows) || !isSize(c.pty.cols):
		return conflict("is of no size that a terminal can have")
	case c.Terminal:
		return conflict("and WithTerminal are both set")
	case c.Background == engine.BackgroundLeave:
		return conflict("cannot leave background processes a terminal that nobody reads")
	case engine.Direct(cmd.Stdout):
		return conflict("and a file in Stdout are both set")
	}
	for _, stream := range []any{cmd.Stdin, cmd.Stderr} {
		if f, ok := stream.(*os.File); ok && engine.MadeByPipe(cmd, f) {
			return conflict("and StdinPipe or StderrPipe are both set")
		}
	}
	c.Merge = c.Merge || cmd.Stderr == nil
	c.PTY = engine.Size{Rows: uint16(c.pty.rows), Cols: uint16(c.pty.cols)}
	return nil
}

func isSize(n int) bool { return n > 0 && n <= math.MaxUint16 }

// Resize changes the size of the terminal of [WithPTY]: its foreground gets SIGWINCH if it was another. The error is
// [os.ErrProcessDone] once the terminal is closed, and a [*ConfigError] without WithPTY or for a size that no terminal
// can have. A process that holds the terminal's locks is waited for at most five seconds.
func (p *Process) Resize(rows, cols int) error {
	switch {
	case p.run.cfg.pty == nil:
		return &ConfigError{Name: "Resize", Reason: "needs WithPTY"}
	case !isSize(rows) || !isSize(cols):
		return &ConfigError{Name: "Resize", Reason: "is of no size that a terminal can have"}
	}
	until := time.Now().Add(resizeBound)
	for {
		err := os.ErrProcessDone
		p.ask(func() { err = p.run.life.Streams.Resize(uint16(rows), uint16(cols)) })
		switch {
		case errors.Is(err, engine.ErrHeld) && time.Now().Before(until):
			time.Sleep(resizeStep)
		case err == nil || errors.Is(err, os.ErrProcessDone):
			return err
		default:
			return fmt.Errorf("safeexec: resize the terminal: %w", err)
		}
	}
}

// A process can hold the locks of a terminal, and a busy machine look like that.
const (
	resizeBound = 5 * time.Second
	resizeStep  = 10 * time.Millisecond
)
