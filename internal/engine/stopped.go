package engine

import (
	"errors"
	"time"

	"github.com/seed841d8200/safeexec/internal/execstop"
	"github.com/seed841d8200/safeexec/internal/fdtable"
)

// An execStopped is a command that is stopped at its execve.
type execStopped struct {
	starter
	stop *execstop.Stop
}

// startStopped starts the command up to its exec stop, and lets it run if it has what was declared and nothing else. On
// error it has been killed.
func (r starter) startStopped() (err, ours error) {
	var stop *execstop.Stop
	err = r.marks.Start(func() (err error) {
		stop, err = execstop.Start(r.own)
		return err
	})
	if errors.Is(err, execstop.ErrRefused) {
		return nil, r.unstoppable(ErrProofRefused, err)
	}
	if err != nil {
		return err, nil
	}
	defer stop.Close()
	h := execStopped{r, stop}
	runs := false
	defer func() {
		if !runs { // the context may have panicked
			h.kill()
		}
	}()
	for _, step := range []func() error{h.await, h.prove, h.keepPrivilege, h.mark, h.limit, stop.Release} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	runs = true
	return nil, nil
}

// The pauses between two looks at a command on its way to its stop, which takes microseconds unless a file system is
// slow.
const (
	firstPause = 20 * time.Microsecond
	lastPause  = time.Millisecond
)

// await waits until the command has stopped or died, or the run has to end.
func (r execStopped) await() error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		there, err := r.stop.Stopped()
		if there || err != nil {
			return err
		}
		if r.stop.Exited() {
			return nil
		}
		if err := r.mustEnd(); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// prove compares what the command has with what was declared.
func (r execStopped) prove() error {
	if !r.cfg.Proof || r.stop.Exited() {
		return nil
	}
	extra := make([]bool, len(r.cmd.ExtraFiles))
	for i, f := range r.cmd.ExtraFiles {
		extra[i] = f != nil
	}
	undeclared, err := fdtable.Undeclared(r.own.Process.Pid, extra, r.cfg.FDs, r.own.Env)
	switch {
	case err != nil && r.stop.Exited():
		return nil // killed from outside the run: it has run nothing
	case err != nil:
		return Errors{ErrFDsUnknown, err}
	case len(undeclared) > 0:
		r.Facts.LeakedFDs = undeclared
		return &LeakedFDsError{FDs: r.Facts.LeakedFDs}
	}
	r.Facts.FDsProved = true
	return nil
}

// keepPrivilege refuses a program that would run without the privilege of its file.
func (r execStopped) keepPrivilege() error {
	if r.stop.Exited() {
		return nil
	}
	lost, err := r.stop.LosesPrivilege()
	switch {
	case err != nil && r.stop.Exited():
		return nil
	case err != nil:
		return r.unstoppable(ErrProofPrivilege, err)
	case lost:
		return r.unstoppable(ErrProofPrivilege)
	}
	return nil
}

// mark gives the command, in its exec stop, the limit mark, which all that it starts inherits. It stands in for a
// cgroup where containment is required.
func (r execStopped) mark() error {
	if !r.marks.Limit(r.own.Process.Pid) && r.noCgroup != nil && !r.stop.Exited() {
		return r.unstoppable(errNoMark)
	}
	return nil
}

func (r execStopped) limit() error {
	if err := r.setLimits(); err != nil && !r.stop.Exited() {
		return Errors{ErrLimits, err}
	}
	return nil
}

// kill ends a command that has not run. Its exit closes files, which can take for ever on a dead file system, so it is
// waited for no longer than any other death by SIGKILL.
func (r execStopped) kill() {
	r.Facts.FDsProved = false
	r.stop.Kill()
	bound := time.Now().Add(r.cfg.Kill)
	for pause := firstPause; !r.stop.Exited(); pause = min(2*pause, lastPause) {
		if time.Now().After(bound) {
			own := r.own
			r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedLeader)
			go func() { _ = own.Wait() }()
			return
		}
		time.Sleep(pause)
	}
	_ = r.own.Wait()
}
