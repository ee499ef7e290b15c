package safeexec

import (
	"os"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// forward is Process.Signal.
func (r *run) forward(sig syscall.Signal) error {
	if r.exitSeen.Load() {
		return os.ErrProcessDone
	}
	before := r.callerSent.Or(engine.SignalBit(sig)) // first: the leader may be gone before Signal returns
	err := r.signalLeader(sig)
	if err != nil && before&engine.SignalBit(sig) == 0 {
		r.callerSent.And(^engine.SignalBit(sig))
	}
	return err
}

func (r *run) signalLeader(sig syscall.Signal) error {
	if r.actor != nil {
		r.actor.program.Signal(sig)
		return nil
	}
	return r.process.Signal(sig)
}

// takeStock records what was signaled and what is alive.
func (r *run) takeStock() {
	r.result.Hidden = r.Tree.Hidden()
	if r.Tree.Stuck() {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLook)
	}
	alive := make(map[proctree.Process]bool)
	r.Tree.Until(time.Now())
	switch {
	case r.left:
		r.listLeft()
	case !r.Empty:
		if !r.Exited {
			r.result.Survivors = append(r.result.Survivors, info(proctree.Inspect(r.result.PID)))
		}
		members, _ := r.Tree.All()
		for _, m := range members {
			alive[engine.Identity(m.Process)] = true
			r.result.Survivors = append(r.result.Survivors, info(engine.Named(m.Process)))
		}
	}
	r.result.Killed = infos(r.Killed(alive))
}

func info(p proctree.Process) ProcessInfo {
	return ProcessInfo{PID: p.PID, StartTicks: p.Start, Name: p.Name}
}

func infos(list []proctree.Process) []ProcessInfo {
	var out []ProcessInfo
	for _, p := range list {
		out = append(out, info(p))
	}
	return out
}

// reap takes the leader's status, which releases its numbers, and everything else that the run holds.
func (r *run) reap() {
	if r.actor != nil {
		r.reapActor()
		return
	}
	r.takeStock()
	r.Tree.ReapAdopted()
	r.unwatchExit()
	r.Tree.Close()
	if r.Exited && !r.Tree.Reapable() {
		r.Exited = false
		r.result.Survivors = append(r.result.Survivors, info(proctree.Inspect(r.result.PID)))
	}
	if !r.Exited {
		// It survived SIGKILL, or a tracer holds the zombie. Waiting for it here could be for ever.
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLeader)
		go func() {
			_, _ = r.process.Wait()
			if r.own != nil {
				r.own.Process = engine.Released()
				_ = r.own.Wait()
			}
		}()
	} else {
		if r.stops != nil {
			<-r.stops // it returns at the exit, and asks for the number, which is ours until the next line
		}
		r.state, r.waitErr = r.process.Wait()
		if r.waitErr != nil {
			_ = r.process.Release() // Wait keeps the pidfd where somebody else reaped
			r.Tree.ReapLeader()
		}
	}
	if r.inquiry != nil && !r.inquiry.Done() {
		r.result.Abandoned = append(r.result.Abandoned, AbandonedReport)
	}
	r.closeWaiting()
	r.removeLeaf()
	r.result.GuardRestarts = r.ward.End() // last: had we died before, there was something to end
	r.result.Times.Total = time.Since(r.result.Times.Started)
}

// closeWaiting ends what wakes the run, the poller, and the marks, and gives up what was reserved.
func (r *run) closeWaiting() {
	if r.unwatch != nil {
		r.unwatch()
	}
	r.delist()
	for _, stop := range r.unforce {
		stop()
	}
	if r.Poller != nil {
		r.Poller.Close()
	}
	r.marks.End()
	r.freeLeft()
}

// status fills in how the leader ended.
func (r *run) status(state *os.ProcessState) {
	r.result.State = state
	if state == nil {
		return
	}
	r.result.ExitCode = state.ExitCode()
	ws, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !ws.Signaled() {
		return
	}
	r.result.Signal = ws.Signal()
	r.result.CoreDumped = ws.CoreDump()
	sig := ws.Signal()
	switch {
	case r.Sent&engine.SignalBit(sig) != 0:
		r.result.SignaledBy = SignalerSafeexec
	case r.callerSent.Load()&engine.SignalBit(sig) != 0:
		r.result.SignaledBy = SignalerCaller
	default:
		r.result.SignaledBy = SignalerOther
	}
}
