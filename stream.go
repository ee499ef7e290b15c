package safeexec

import (
	"io"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/poll"
)

// openStreams makes the pipes. At the first error the caller closes what there is.
func (r *run) openStreams() error {
	if r.cmd.Stdin != nil && !engine.Direct(r.cmd.Stdin) {
		s := &r.streams.Each[0]
		s.End.Notify(r.Wake)
		var err error
		if s.Child, err = s.End.Input(); err != nil {
			return err
		}
		s.Kind, s.In = engine.StreamInput, new(drain.Input)
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
	s.End.Notify(r.Wake)
	var err error
	if s.Child, err = s.End.Output(); err != nil {
		return err
	}
	s.Output = new(engine.Output)
	if w == nil {
		s.Kind = engine.StreamCaptured
		s.Keep.Limit(int(r.cfg.outputLimit))
		s.Out.Capture(&s.End, &s.Keep)
		if f := r.tees(fd); f != nil {
			s.Deliver(f, r.Wake)
		}
	} else {
		s.Kind = engine.StreamWriter
		s.Out.Stream(&s.End, w, r.Wake)
		s.Out.AtEnd(lastLine(w))
		s.Out.Lend(s.Lend)
	}
	if r.cfg.overflow == OverflowStop {
		s.Out.StopAt(r.cfg.outputLimit)
	}
	return nil
}

// Step waits until something happens, until the given time at the latest, and moves bytes.
func (r *run) Step(until time.Time) {
	var events []poll.Event
	if r.Blind {
		time.Sleep(min(max(time.Until(until), 0), engine.BlindStep))
	} else {
		var err error
		if events, err = r.Poller.Wait(until); err != nil {
			r.Blind = true
		}
	}
	for _, e := range events {
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
