package safeexec

import (
	"os"
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

// conclude completes the result: by the first Wait, or before it for those who observe the run.
func (p *Process) conclude() {
	p.once.Do(func() {
		p.err = p.run.outcome()
		p.run.endObserving(p.err)
	})
}

// Done returns a channel that is closed at the end of the run, when Wait will not block.
func (p *Process) Done() <-chan struct{} { return p.done }

// PID returns the leader's process ID. Once Done is closed the number may belong to somebody else.
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

// Info names the leader for good, also for a later process of this machine: it is a [Target] of [KillTree] that no
// other process can be taken for, before or after the next boot. Asked for the first time when the run has come to its
// end, it has no StartTicks.
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
// ended: then nothing is changed. Otherwise the old timeout can not end the run any more.
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
