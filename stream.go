package safeexec

import (
	"io"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// openStreams makes the pipes. At the first error the caller closes what there is.
func (r *run) openStreams() error {
	if r.cmd.Stdin != nil && !engine.Direct(r.cmd.Stdin) {
		s := &r.streams.Each[0]
		if err := s.OpenInput(r.Wake); err != nil {
			return err
		}
	}
	if err := r.openOutput(1, r.cmd.Stdout); err != nil {
		return err
	}
	if r.merged() {
		return nil
	}
	return r.openOutput(2, r.cmd.Stderr)
}

func (r *run) openOutput(fd int, w io.Writer) error {
	if engine.Direct(w) {
		return nil
	}
	s := &r.streams.Each[fd]
	if err := s.OpenOutput(r.Wake); err != nil {
		return err
	}
	if w == nil {
		s.Capture(int(r.cfg.outputLimit))
		if f := r.tees(fd); f != nil {
			s.Deliver(f, r.Wake)
		}
	} else {
		s.Stream(w, lastLine(w), r.Wake)
	}
	if r.cfg.overflow == OverflowStop {
		s.Out.StopAt(r.cfg.outputLimit)
	}
	return nil
}

// Step waits until something happens, until the given time at the latest, and moves bytes.
func (r *run) Step(until time.Time) {
	for _, e := range r.Await(until) {
		switch {
		case e.Token == engine.TokenCgroup:
			r.LookAtLeaf()
		case e.Token < engine.TokenExit && !r.streams.Each[e.Token].End.Open():
			// closed by an event before this one
		case e.Token == engine.TokenExit:
			r.Exited = true
			r.unwatchExit()
		case e.Token >= engine.TokenMember:
			r.MemberDied(e.Token)
		case e.Token == 0:
			r.streams.Push(&r.streams.Each[0])
		default: // a hangup as well: the kernel can report it a moment before the bytes that came first
			r.streams.Pull(e.Token)
		}
	}
	if r.exitFD < 0 && r.exitSeen.Load() {
		r.Exited = true
	}
	r.streams.Resume()
	if r.Blind && !r.Exited {
		r.Exited = r.leaderExited()
	}
	r.questions.Answer()
}

func (r *run) unwatchExit() {
	if r.exitFD >= 0 {
		_ = r.Poller.Remove(r.exitFD)
		r.exitFD = -1
	}
}
