package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/diagnose"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// The reporting is what the report leaves.
type reporting struct{ inquiry *diagnose.Inquiry }

// A reporter explains why a tree is stuck.
type reporter struct{ *Run }

// diagnose explains why the tree is stuck, before the first signal: death and SIGSTOP destroy the evidence. Bytes go on
// moving, or a busy command would seem to wait for this process.
func (r reporter) diagnose() {
	if r.actor != nil {
		r.Facts.Reported = r.stuck() && !r.cfg.NoReport // by the actor
		return
	}
	if !diagnose.Supported || r.cfg.NoReport || !r.stuck() || r.forced() || proctree.Foreign() {
		return
	}
	target := diagnose.Target{
		PID: r.Facts.PID, Child: true, Pipes: r.Streams.OutputPipes(), Commands: r.cfg.Commands,
	}
	if r.terminal == nil {
		target.Session = r.Facts.PID
	}
	members, sure := r.Tree.All()
	target.Whole = sure || r.Tree.Complete()
	for _, m := range members {
		target.Members = append(target.Members, m.PID)
	}
	if r.Exited && len(members) > 0 {
		askOldest(&target, members)
	}
	until := time.Now().Add(r.cfg.Report)
	r.inquiry = diagnose.Begin(target, r.cfg.Report, r.Wake)
	for !r.inquiry.Done() && time.Now().Before(until) && !r.forced() {
		r.Step(until)
	}
	r.attach(target.PID, r.inquiry.Finish())
	r.Facts.Times.Report = r.lap()
}

// askOldest asks about what the leader has left, since it has exited itself.
func askOldest(target *diagnose.Target, members []*proctree.Member) {
	oldest := slices.MinFunc(members, func(a, b *proctree.Member) int { return cmp.Compare(a.Start, b.Start) })
	target.PID, target.Child = oldest.PID, false
	target.Members = slices.DeleteFunc(target.Members, func(pid int) bool { return pid == oldest.PID })
}

// explainHolders explains what the holders of a pipe do, while it is still open.
func (r reporter) explainHolders() {
	if !diagnose.Supported || r.cfg.NoReport || r.Facts.Reported || len(r.Facts.Holders) == 0 {
		return // a report from before the first signal, or of the other pipe, knows the holders too
	}
	target := diagnose.Target{
		PID: r.Facts.Holders[0].PID, Pipes: r.Streams.OutputPipes(), Commands: r.cfg.Commands,
	}
	for _, h := range r.Facts.Holders {
		target.Holders = append(target.Holders, h.PID)
	}
	woken := make(chan struct{})
	r.inquiry = diagnose.Begin(target, r.cfg.Report, func() { close(woken) })
	late := time.NewTimer(r.cfg.Report)
	defer late.Stop()
	select {
	case <-woken:
	case <-late.C:
	}
	r.attach(r.Facts.PID, r.inquiry.Finish())
}

func (r reporter) attach(pid int, s *diagnose.Snapshot) {
	r.Facts.Reported, r.Facts.Subject, r.Facts.Snapshot, r.Facts.Taken = true, pid, s, time.Now()
}

// sendDiagnostic makes the tree say what it was doing. The leader is reaped later, so it pins the numbers.
func (r reporter) sendDiagnostic() {
	if !r.cfg.DiagnosticSet || !r.stuck() || r.forced() || r.Facts.Cause == CauseLimits {
		return // a command without its limits has just begun
	}
	until := time.Now().Add(r.cfg.Diagnostic.Wait)
	r.SignalTree(r.cfg.Diagnostic.Signal, until)
	r.AwaitEmpty(until, r.cfg.Diagnostic.Signal)
	r.Facts.Times.Diagnostic = r.lap()
}
