package safeexec

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// An actor is what a run has in place of a process where a test answers for its commands, package safeexectest.
// Everything else of the run is real.
type actor struct {
	program seam.Program
	pid     int
	end     seam.End      // written before ended is closed
	ended   chan struct{} // closed by play
	cut     atomic.Int64  // the Cause to end it for, by the program
}

// firstActor is above all process IDs of Linux, so that nothing real is meant by one.
const firstActor = 1 << 30

var actors atomic.Int32

// stage is spawn for a run whose commands a test answers for.
func (r *run) stage() error {
	r.marks.EndTurn()
	program, err := r.fake.Start(seam.Call{Cmd: r.cmd, Deadline: r.deadline, Settings: r.cfg.settings()})
	if err != nil {
		return r.refusedByFake(err)
	}
	a := &actor{program: program, pid: firstActor + int(actors.Add(1)), ended: make(chan struct{})}
	r.actor, r.Actor = a, program
	r.process = new(os.Process)
	_ = r.process.Release() // it can not be signaled or waited for
	r.process.Pid = a.pid
	r.cmd.Process, r.result.PID = r.process, a.pid
	r.pipesOut = engine.HasPipes(r.cmd)
	r.streams.LastOutput = time.Now()

	stage := seam.Stage{PID: a.pid, In: r.actorsInput(), Out: r.actorsOutput(1), Err: r.actorsOutput(2)}
	stage.End = func(cause int) {
		a.cut.Store(int64(cause))
		r.Poller.Wake()
	}
	var files []*os.File
	for i, callers := range []any{r.cmd.Stdin, r.cmd.Stdout, r.cmd.Stderr} {
		if f, ok := callers.(*os.File); ok && engine.MadeByPipe(r.cmd, f) {
			files = append(files, f)
		}
		if f := r.streams.Each[i].Child; f != nil {
			files = append(files, f)
			r.streams.Each[i].Child = nil
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
	r.streams.Feed(r.cmd.Stdin)
	return nil
}

// refusedByFake is why nothing is started. A start that stalls does so until it is met by a bound.
func (r *run) refusedByFake(err error) error {
	for errors.Is(err, ErrStartStalled) {
		if r.result.Cause = r.reason(time.Now()); r.result.Cause != CauseNone {
			r.result.Abandoned = append(r.result.Abandoned, AbandonedStart)
			return join(r.causeError(), ErrStartStalled)
		}
		if _, err := r.Poller.Wait(r.nextBound()); err != nil {
			return err
		}
	}
	if several, ok := err.(seam.Errors); ok { //nolint:errorlint // a list, not wrapped
		return join(several...)
	}
	return r.startError(err)
}

// actorsInput returns what the actor reads: our pipe or that of StdinPipe. A file of the caller's is left alone.
func (r *run) actorsInput() io.Reader {
	if f := r.streams.Each[0].Child; f != nil {
		return f
	}
	if f, ok := r.cmd.Stdin.(*os.File); ok && engine.MadeByPipe(r.cmd, f) {
		return f
	}
	return nil
}

// actorsOutput returns what the actor writes to.
func (r *run) actorsOutput(fd int) io.Writer {
	callers := r.cmd.Stdout
	if fd == 2 && !r.merged() {
		callers = r.cmd.Stderr
	} else if fd == 2 {
		fd = 1
	}
	return r.streams.Each[fd].ChildWriter(callers)
}

// act is live for an actor: the same steps, of which the tree has no part.
func (r *run) act() {
	defer r.rescue()
	if r.lent != nil {
		close(r.lent)
	}
	r.streams.Begin()
	r.observe()
	if r.Empty = r.result.Cause == CauseExited; !r.Empty {
		r.observed.ending(r.result.Cause)
		if r.stuck() && !r.cfg.noReport {
			r.result.Report, _ = r.actor.program.Report().(*Report)
		}
		r.sendDiagnostic()
		r.stop()
	}
	r.drain()
	r.reap()
	r.redact()
	r.over = true
}

// cause is why the actor is to be ended, which its test says in place of the time that would pass.
func (a *actor) cause() Cause {
	if a == nil {
		return CauseNone
	}
	return Cause(a.cut.Load())
}

// leaderExited reports whether the leader has exited, reaped or not.
func (r *run) leaderExited() bool {
	if r.actor != nil {
		return r.exitSeen.Load()
	}
	return r.Tree.LeaderExited()
}

// reapActor is reap for an actor.
func (r *run) reapActor() {
	if r.Exited {
		<-r.actor.ended // it has said so, and does nothing else
		r.state, r.waitErr = seam.State(r.actor.pid, r.actor.end.Status)
		r.applyEnd(&r.actor.end)
	} else {
		r.result.Survivors = append(r.result.Survivors, ProcessInfo{PID: r.actor.pid, Name: r.program()})
		r.result.Abandoned = append(r.result.Abandoned, AbandonedLeader)
	}
	r.closeWaiting()
	r.result.Times.Total = time.Since(r.result.Times.Started)
}

// applyEnd adds what a real run would have seen of a tree, and an actor can only tell.
func (r *run) applyEnd(end *seam.End) {
	if change, ok := end.Change.(func(*Result)); ok && change != nil {
		change(&r.result)
	}
	if end.Lost {
		r.state, r.waitErr = nil, os.NewSyscallError("wait", syscall.ECHILD)
	}
	if end.Limits != nil {
		r.limitErr = join(ErrLimits, end.Limits)
	}
	r.redactErr = end.Redact
	r.Unseen = end.Unseen
	r.held[1] = len(r.result.Holders) > 0
}

// releaseActor closes the pipes of StdinPipe and its kin.
func (r *run) releaseActor() {
	if r.pipesOut {
		own := *r.cmd
		own.Process = nil // or Start would say something else
		engine.Spend(&own)
	}
}

// reportActor is Process.Report for an actor.
func (p *Process) reportActor() (Report, error) {
	select {
	case <-p.done:
		return Report{}, os.ErrProcessDone
	default:
	}
	if report, ok := p.run.actor.program.Report().(*Report); ok && report != nil {
		return *report, nil
	}
	return Report{PID: p.PID(), Taken: time.Now()}, nil
}
