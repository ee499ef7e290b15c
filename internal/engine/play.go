package engine

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// A casting starts a fake command.
type casting struct{ starter }

// A play is a run of a fake command, for which a test answers.
type play struct{ *Run }

// An actor is what the run of a fake command has in place of a process, see package safeexectest. All else is real.
type actor struct {
	program seam.Program
	pid     int
	end     seam.End      // written before ended is closed
	ended   chan struct{} // closed by play
	cut     atomic.Int64  // the Cause to end it for, by the program
}

// firstActor is above all process IDs of Linux, so that no actor's number is that of a process.
const firstActor = 1 << 30

var actors atomic.Int32

// stage is spawn for a fake command.
func (r casting) stage() error {
	r.marks.EndTurn()
	program, err := r.fake.Start(seam.Call{Cmd: r.cmd, Deadline: r.deadline, Settings: r.host.Settings()})
	if err != nil {
		return r.refusedByFake(err)
	}
	a := &actor{program: program, pid: firstActor + int(actors.Add(1)), ended: make(chan struct{})}
	r.actor, r.Actor = a, program
	r.process = new(os.Process)
	_ = r.process.Release() // it cannot be signaled or waited for
	r.process.Pid = a.pid
	r.cmd.Process, r.Facts.PID = r.process, a.pid
	r.pipesOut = stdio.HasPipes(r.cmd)
	r.Streams.LastOutput = time.Now()

	stage := seam.Stage{PID: a.pid, In: r.actorsInput(), Out: r.actorsOutput(1), Err: r.actorsOutput(2)}
	stage.End = func(cause int) {
		a.cut.Store(int64(cause))
		r.Poller.Wake()
	}
	var files []*os.File
	for i, callers := range []any{r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr} {
		if f, ok := callers.(*os.File); ok && stdio.MadeByPipe(r.cmd, f) {
			files = append(files, f)
		}
		if f := r.Streams.Each[i].Child; f != nil {
			files = append(files, f)
			r.Streams.Each[i].Child = nil
		}
	}
	go func() { // ends with the program, which SIGKILL ends
		defer close(a.ended)
		a.end = program.Live(stage)
		for _, f := range files {
			_ = f.Close() // the caller may have done so
		}
		r.exitSeen.Store(true)
		r.Poller.Wake()
	}()
	r.Streams.Feed(r.cmd.Stdin)
	return nil
}

// refusedByFake returns why nothing is started. A start that stalls does so until a bound of the run.
func (r casting) refusedByFake(err error) error {
	for errors.Is(err, ErrStartStalled) {
		if err := r.stall(); err != nil {
			return err
		}
	}
	if several, ok := err.(seam.Errors); ok { //nolint:errorlint // a list, not wrapped
		return Errors(several)
	}
	return r.startError(err)
}

// actorsInput returns what the actor reads: our pipe or that of StdinPipe, but no file of the caller's.
func (r casting) actorsInput() io.Reader {
	if f := r.Streams.Each[0].Child; f != nil {
		return f
	}
	if f, ok := r.cmd.Stdin.(*os.File); ok && stdio.MadeByPipe(r.cmd, f) {
		return f
	}
	return nil
}

// actorsOutput returns what the actor writes to.
func (r casting) actorsOutput(fd int) io.Writer {
	callers := r.cmd.Stdout
	if fd == 2 && !r.Merged() {
		callers = r.cmd.Stderr
	} else if fd == 2 {
		fd = 1
	}
	return r.Streams.Each[fd].ChildWriter(callers)
}

// reap is the reaper's for an actor.
func (r play) reap() {
	r.Facts.Times.Total = time.Since(r.Facts.Started)
	if r.Exited {
		<-r.actor.ended // which comes right after the exit
		r.Facts.State, r.Facts.WaitErr = seam.State(r.actor.pid, r.actor.end.Status)
		if r.Facts.End == nil { // or what Played calls has not returned
			r.apply(&r.actor.end)
		}
	} else {
		r.Facts.Survivors = append(r.Facts.Survivors, proctree.Process{PID: r.actor.pid, Name: r.Facts.Program})
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedLeader)
	}
	holdings(r).close()
}

// apply adds the facts that a real run would have seen of its tree.
func (r play) apply(end *seam.End) {
	r.Facts.End, r.Facts.LimitErr, r.Unseen = end, end.Limits, end.Unseen
	if end.Lost {
		r.Facts.State, r.Facts.WaitErr = nil, os.NewSyscallError("wait", syscall.ECHILD)
	}
	r.host.Played()
}

// release closes the pipes of StdinPipe and its kin.
func (r play) release() {
	if r.pipesOut {
		own := *r.cmd
		own.Process = nil // or Start would say something else
		stdio.Spend(&own)
	}
}

// cause returns why the actor has to end, which its test says instead of letting time pass.
func (a *actor) cause() Cause {
	if a == nil {
		return CauseNone
	}
	return Cause(a.cut.Load())
}
