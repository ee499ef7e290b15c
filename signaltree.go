package safeexec

import (
	"os"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/engine"
)

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
	p.ask(func() {
		if r := p.run; !r.Empty && !r.left {
			err = r.passOn(sig)
		}
	})
	return err
}

// passOn sends a signal of the caller's to the tree. The leader, which is reaped later, pins the numbers.
func (r *run) passOn(sig syscall.Signal) error {
	members, _ := r.Tree.Live()
	if r.Exited && len(members) == 0 {
		return os.ErrProcessDone
	}
	if !r.Exited {
		r.callerSent.Or(engine.SignalBit(sig))
	}
	r.Tree.Quiet(func() { r.Send(sig, members) })
	return nil
}
