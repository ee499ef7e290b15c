package engine

import (
	"context"
	"io"
	"os/exec"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// A Run is one command from its start to its end. It belongs to the goroutine that calls Begin and then Supervise,
// except for Requests, Ask, Signal and StopAll.
type Run struct {
	ladder.Climber // ends its tree
	Streams        stdio.Streams
	Requests
	Facts Facts // what is known so far

	// Lent is closed once the caller may use the process; nil if the caller does not wait for that.
	Lent chan struct{}

	ctx  context.Context
	cmd  *exec.Cmd // the caller's
	cfg  *Config
	host Host

	started   // by the start
	reporting // by diagnose and drain

	deadline  time.Time // of the whole run
	mark      time.Time // when the present phase began
	byContext bool      // the context's deadline passed, but its own timer has not fired yet
	left      bool      // by background: the tree lives on, and gets no more signals
	over      bool      // Supervise has come to its end

	questions Questions // which wake the poller as well
}

// A Host is the caller's side of a run.
type Host interface {
	// AddEnv is called before each try to start cmd, a copy.
	AddEnv(cmd *exec.Cmd)
	// Retried is called when the start is to be tried again.
	Retried(err error)
	// BeforeSignals is called before the first signal.
	BeforeSignals(cause Cause)
	// Settings are what a fake command is told of the options.
	Settings() any
	// Played is called once Facts.End is known, before the run has ended. It may change Facts.Survivors.
	Played()
	// Tee returns what else gets an output that is kept; or nil.
	Tee(fd int) *stdio.Fanout
	// LastLine returns what to call after the last byte of a Writer; or nil.
	LastLine(w io.Writer) func() error
}

// Begin starts the command. On error nothing runs and nothing is left open; a command that was refused for its
// configuration is unchanged, and can be used again. The caller must have set Facts.Program and Facts.Started.
func (r *Run) Begin(ctx context.Context, cmd *exec.Cmd, cfg *Config, host Host) error {
	now := r.Facts.Started
	r.ctx, r.cmd, r.cfg, r.host = ctx, cmd, cfg, host
	r.mark, r.exitFD = now, -1
	r.Waiter = r
	r.Streams.LastOutput, r.Streams.Idle = now, cfg.Idle > 0
	r.Streams.Init(&r.Climber)
	r.fake = seam.From(ctx)
	s := starter{r}
	if err := (guarding{s}).check(); err != nil {
		return err
	}
	attr, err := s.attributes()
	if err != nil {
		return err
	}
	r.setDeadline(now)
	running := false
	defer func() {
		if !running { // the context, or a fake, may have panicked
			tty{r}.abandon()
			r.Streams.CloseAll()
			holdings{r}.close()
			holdings{r}.removeLeaf()
			r.Facts.GuardRestarts = r.ward.End()
			stdio.Spend(cmd)
		}
	}()
	if err = s.prepare(attr); err != nil {
		return err
	}
	running = true
	r.Facts.Times.Start = r.lap()
	return nil
}

// Supervise is the life of a run after its start. Its order is the heart of the package: everything that sends a signal
// comes before reap, because the leader, alive or a zombie, pins the numbers of its process, its group and its session.
// From reap on they may belong to others.
//
// What can happen at the same time, and why each order ends the same way:
//
//   - Exit and deadline: observe looks for the exit once more before it accepts the deadline, and an exit wins. A
//     command that exits in time is not reported as timed out.
//   - Exit, then the deadline, cancellation or Stop during linger or drain: the command's own status stands. They cut
//     the linger short, and the drain timeout counts from then at the latest. During BackgroundWait they end the tree,
//     and are the cause.
//   - Exit, and the background is left: nothing sends a signal any more. What is left may end, fork or write at any
//     time, so its pipe is read as far as one look found it filled.
//   - Cancel during stop: the ladder is under way, and does not begin again.
//   - Kill, or the end of a context of WithForce: the grace period is over, whatever began it. A rung below SIGKILL is
//     skipped, or its wait cut short. Kill is a Stop as well, and the cause if there was none before.
//   - SetTimeout and deadline: one compare-and-swap decides. Either the run goes on, or SetTimeout reports that it came
//     too late.
//   - The leader dies of a signal while stop waits: it stays a zombie until reap, so its group's number stays ours.
//   - A descendant is born while its parent is killed: the next look at the tree finds it. Before its bound,
//     stop ends only when a look finds the tree empty, or where no look could ever prove that.
func (r *Run) Supervise() {
	// The pidfd is lent for the whole life: the caller has cmd.Process, and may Wait for it or Release it.
	if r.actor != nil || !r.Tree.LendPidfd(r.superviseWith) {
		r.superviseWith(-1)
	}
}

// superviseWith is Supervise with the leader's pidfd, -1 where there is none. With a fake command each phase does only
// what a test can observe.
func (r *Run) superviseWith(pidfd int) {
	defer r.rescue()
	if r.Lent != nil {
		close(r.Lent)
	}
	leader{r}.watch(pidfd)
	r.Streams.Begin()
	r.observe()
	if r.Facts.Cause == CauseExited {
		background{r}.treat()
	}
	if r.Facts.Cause != CauseExited {
		r.host.BeforeSignals(r.Facts.Cause)
		reporter{r}.diagnose()
		reporter{r}.sendDiagnostic()
	}
	if !r.Empty && !r.left {
		r.stop()
	}
	tty{r}.takeBack()
	(&drainer{Run: r}).drain()
	reaper{r}.reap()
	r.seal()
	r.over = true
}

// rescue ends the command if Supervise did not return: code of the caller's that the run calls, of a buffer or the
// context, has panicked or ended the goroutine. Nothing would supervise the command any more.
func (r *Run) rescue() {
	if r.over {
		return
	}
	r.Streams.Abandon()
	r.Streams.CloseAll()
	r.End(ladder.Rungs{Kill: r.cfg.Kill})
	tty{r}.takeBack()
	reaper{r}.reap()
	r.seal()
}

// seal ends Ask, and puts in order what is kept: from now on it is only read.
func (r *Run) seal() {
	r.questions.Close()
	r.Streams.Seal()
}

// observe waits for the leader's exit or for a reason to end it.
func (r *Run) observe() {
	for {
		r.Facts.Cause = r.reason(time.Now())
		if r.Facts.Cause != CauseNone && !r.Exited {
			r.Step(ladder.Past) // this goroutine may be late for an exit that came in time
			r.Exited = r.Exited || r.exitFD < 0 && leader{r}.exited()
		}
		if r.Exited {
			r.Facts.Cause = CauseExited
		}
		if r.Facts.Cause != CauseNone && r.settle(r.Facts.Cause) {
			r.noteCause()
			r.Facts.Times.Run = r.lap()
			return
		}
		r.Step(r.nextBound())
		tty{r}.goOn()
	}
}

// stop climbs the ladder until the tree is empty or the ladder ends. The grace period is the tree's and not the
// leader's: a leader that exits at once must not take its workers' time.
func (r *Run) stop() {
	r.End(r.cfg.Rungs())
	r.Facts.Times.Stop = r.lap()
}

// Step waits until something happens, until the given time at the latest, and moves bytes.
func (r *Run) Step(until time.Time) {
	for _, e := range r.Await(until) {
		switch {
		case e.Token == ladder.TokenCgroup:
			r.LookAtLeaf()
		case e.Token < ladder.TokenExit && !r.Streams.Each[e.Token].End.Open():
			// closed by an event before this one
		case e.Token == ladder.TokenExit:
			r.Exited = true
			leader{r}.unwatch()
		case e.Token >= ladder.TokenMember:
			r.MemberDied(e.Token)
		case e.Token == 0:
			r.Streams.Push(&r.Streams.Each[0])
		default: // also for a hangup, which the kernel can report before the bytes that came first
			r.Streams.Pull(e.Token)
		}
	}
	if r.exitFD < 0 && r.exitSeen.Load() {
		r.Exited = true
	}
	r.Streams.Resume()
	if r.Blind && !r.Exited {
		r.Exited = leader{r}.exited()
	}
	r.questions.Answer()
}

// lap ends a phase and returns how long it took.
func (r *Run) lap() time.Duration {
	now := time.Now()
	d := now.Sub(r.mark)
	r.mark = now
	return d
}
