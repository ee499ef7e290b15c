package engine

import (
	"context"
	"errors"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
)

// An ended is a run whose command has ended. None of its numbers is pinned any more.
type ended struct{ *Run }

// Conclude completes the facts, and sets cmd.ProcessState as Wait of os/exec does. It is called once.
func (r *Run) Conclude() {
	e := ended{r}
	released := e.release()
	r.cmd.ProcessState = r.Facts.State
	if released {
		e.askCommandContext()
	}
	e.status()
	for i := range r.Streams.Each {
		r.Facts.Output[i] = r.Streams.Each[i].Summary()
	}
	r.NameCause()
}

// Release does, before Conclude, what Wait of os/exec does, unless the caller may be at a pipe of StdinPipe or its kin:
// then it reports false.
func (r *Run) Release() bool {
	if r.pipesOut {
		return false
	}
	ended{r}.release()
	return true
}

// NameCause completes what is known of the cause.
func (r *Run) NameCause() {
	ended{r}.awaitContext()
	switch d, ok := r.ctx.Deadline(); {
	case r.Facts.CtxErr == nil && r.cmdCanceled.Load():
		r.Facts.Settled = DeadlineCommands
	case ok && d.Equal(r.deadline), r.cfg.Timeout == 0:
		r.Facts.Settled = DeadlineContext
	case r.timeoutSeen != 0:
		r.Facts.Settled = DeadlineSet
	}
}

// release closes what StdinPipe and its kin opened and ends the goroutine that watches the context of
// exec.CommandContext, as Wait of os/exec does. The leader was reaped before, so that all else in it is void. It
// reports false if a process holds one of the pipes, and a goroutine closes them later.
func (r ended) release() bool {
	if r.actor != nil {
		play(r).release()
		return true
	}
	if !r.Exited || r.own == nil {
		return true
	}
	own := r.own
	r.own = nil
	own.Process = stdio.Released() // the number may be another process's by now
	if !r.pipesOut {
		_ = own.Wait()
		return true
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		_ = own.Wait()
	}()
	late := time.NewTimer(r.cfg.Drain)
	defer late.Stop()
	select {
	case <-closed:
		return true
	case <-late.C:
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedPipe)
		return false
	}
}

// askCommandContext asks the context of exec.CommandContext whether it was canceled or its deadline passed. Only
// os/exec has it: Start returns its error before it does anything. If the context is not done, the path makes Start
// fail. It closes the command's pipes, so it comes after a release that has closed them.
func (r ended) askCommandContext() {
	if r.Facts.Cause != CauseCanceled || !r.cmdCanceled.Load() || r.Facts.CtxErr != nil {
		return
	}
	asking := *r.cmd
	asking.Process, asking.ProcessState, asking.Err = nil, nil, nil
	asking.Stdin, asking.Stdout, asking.Stderr, asking.ExtraFiles = nil, nil, nil, nil
	asking.Path = "/dev/null/" // below a file that is no directory
	if errors.Is(asking.Start(), context.DeadlineExceeded) {
		r.Facts.Cause = CauseTimeout
	}
}

func (r ended) awaitContext() {
	if !r.byContext || r.Facts.CtxErr != nil {
		return
	}
	late := time.NewTimer(TimerSlack)
	defer late.Stop()
	select {
	case <-r.ctx.Done():
	case <-late.C:
	}
	if err := r.ctx.Err(); errors.Is(err, context.DeadlineExceeded) {
		r.Facts.CtxErr, r.Facts.CtxCause = err, context.Cause(r.ctx)
	}
}

// status fills in how the leader ended.
func (r ended) status() {
	if r.Facts.State == nil {
		return
	}
	ws, ok := r.Facts.State.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return
	}
	r.Facts.Signal = ws.Signal()
	r.Facts.CoreDumped = ws.CoreDump()
	sig := ws.Signal()
	switch {
	case r.Sent&ladder.SignalBit(sig) != 0:
		r.Facts.SignaledBy = SignalerSafeexec
	case r.callerSent.Load()&ladder.SignalBit(sig) != 0:
		r.Facts.SignaledBy = SignalerCaller
	default:
		r.Facts.SignaledBy = SignalerOther
	}
}
