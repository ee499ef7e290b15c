package safeexec

import (
	"io"
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/poll"
)

// openStreams makes the pipes. At the first error the caller closes what there is.
func (r *run) openStreams() error {
	if r.cmd.Stdin != nil && !engine.Direct(r.cmd.Stdin) {
		s := &r.streams[0]
		s.End.Notify(r.wake)
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
	s := &r.streams[fd]
	s.End.Notify(r.wake)
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
			s.Deliver(f, r.wake)
		}
	} else {
		s.Kind = engine.StreamWriter
		s.Out.Stream(&s.End, w, r.wake)
		s.Out.AtEnd(lastLine(w))
		s.Out.Lend(s.Lend)
	}
	if r.cfg.overflow == OverflowStop {
		s.Out.StopAt(r.cfg.outputLimit)
	}
	return nil
}

// closeChildEnds leaves the command alone with its ends, so that its exit is the end of the pipe.
func (r *run) closeChildEnds() {
	var files [3]*os.File
	for i := range r.streams {
		files[i], r.streams[i].Child = r.streams[i].Child, nil
	}
	if files != [3]*os.File{} {
		r.childEnds = pipe.CloseFiles(files, r.wake)
	}
}

// feed begins to read the caller's Reader: a start that fails reads nothing, and after Start the field is the
// caller's again.
func (r *run) feed() {
	if s := &r.streams[0]; s.Kind == engine.StreamInput {
		s.In.Feed(&s.End, r.cmd.Stdin, r.wake)
		s.In.Lend(s)
	}
}

// watchStreams begins to watch the pipes. What can be written at once is written at once.
func (r *run) watchStreams() {
	for i := range r.streams {
		switch s := &r.streams[i]; {
		case s.Kind == engine.StreamInput:
			r.push(s)
		case s.Kind.IsOutput() && r.Exited:
			r.pull(i)
		case s.Kind.IsOutput():
			r.watch(i, poll.Read)
		}
	}
}

func (r *run) watch(fd int, dir poll.Direction) {
	s := &r.streams[fd]
	if s.Watched || !s.End.Open() {
		return
	}
	if err := r.Poller.Add(s.End.FD(), dir, fd); err != nil {
		r.Blind = true
		return
	}
	s.Watched = true
}

func (r *run) unwatchStream(s *engine.Stream) {
	if s.Watched {
		s.Watched = false
		_ = r.Poller.Remove(s.End.FD())
	}
}

// closeStream closes our end: the command's end of file, or the end of its output.
func (r *run) closeStream(s *engine.Stream) {
	if s.End.Open() {
		r.unwatchStream(s) // before: a child between fork and exec may have a copy
		s.End.Close()
	}
}

// closeStreams gives up what a start that failed had opened.
func (r *run) closeStreams() {
	r.closeChildEnds()
	for i := range r.streams {
		r.closeStream(&r.streams[i])
	}
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
		case e.Token < engine.TokenExit && !r.streams[e.Token].End.Open():
			// closed by an event before this one
		case e.Token == engine.TokenExit:
			r.Exited = true
			r.unwatchExit()
		case e.Token >= engine.TokenMember:
			r.MemberDied(e.Token)
		case e.Token == 0:
			r.push(&r.streams[0])
		default: // a hangup as well: the kernel can report it a moment before the bytes that came first
			r.pull(e.Token)
		}
	}
	if r.exitFD < 0 && r.exitSeen.Load() {
		r.Exited = true
	}
	r.resume()
	r.questions.Answer()
}

// resume tries the streams that wait for a Reader or Writer, and without a poller all of them.
func (r *run) resume() {
	for i := range r.streams {
		s := &r.streams[i]
		if !s.End.Open() || s.Watched && !r.Blind {
			continue
		}
		if s.Kind == engine.StreamInput {
			r.push(s)
		} else {
			r.pull(i)
		}
	}
	if r.Blind && !r.Exited {
		r.Exited = r.leaderExited()
	}
}

// pull moves of an output what one turn may. It does not go on until the pipe is empty: one turn takes all
// that the pipe holds, and whoever fills it again has it locked meanwhile.
func (r *run) pull(fd int) {
	s := &r.streams[fd]
	before := s.Out.Total()
	state := s.Out.Pull(s.Limit())
	s.Owed = max(s.Owed-int(s.Out.Total()-before), 0)
	switch state {
	case drain.Moved:
		if r.cfg.idle > 0 {
			r.lastOutput = time.Now()
		}
		r.watch(fd, poll.Read)
	case drain.Starved:
		if s.Final {
			s.Owed = 0
		}
		r.watch(fd, poll.Read)
	case drain.Blocked, drain.Drawn, drain.Held: // whoever makes it go on wakes the poller
		r.unwatchStream(s)
	case drain.Ended:
		r.closeStream(s)
	}
	s.Blocked = state == drain.Blocked
}

// push moves what can be moved of the input.
func (r *run) push(s *engine.Stream) {
	switch s.In.Push() {
	case drain.Blocked, drain.Moved:
		r.watch(0, poll.Write)
	case drain.Starved, drain.Held:
		r.unwatchStream(s)
	case drain.Ended:
		r.closeStream(s)
	}
}

// writerBusy reports whether an output waits for a Writer of the caller's.
func (r *run) writerBusy() bool {
	for i := range r.streams {
		if s := &r.streams[i]; s.Kind.HasWriter() && s.End.Open() && (s.Blocked || s.DrawingBlocked()) {
			return true
		}
	}
	return false
}

// noteDrawn brings lastOutput up to date where the goroutine of a Writer reads the pipe.
func (r *run) noteDrawn() {
	for i := range r.streams {
		if s := &r.streams[i]; s.Kind.HasWriter() {
			r.lastOutput = engine.Later(r.lastOutput, s.Out.LastDrawn())
		}
	}
}

// writerFailed reports whether a Writer of the caller's has returned an error.
func (r *run) writerFailed() bool {
	for i := range r.streams {
		if s := &r.streams[i]; s.Kind.HasWriter() && s.Out.Err() != nil {
			return true
		}
	}
	return false
}

// overflowed reports whether a stream has exceeded its limit.
func (r *run) overflowed() bool {
	for i := range r.streams {
		if s := &r.streams[i]; s.Kind.IsOutput() && s.Out.Exceeded() {
			return true
		}
	}
	return false
}

func (r *run) unwatchExit() {
	if r.exitFD >= 0 {
		_ = r.Poller.Remove(r.exitFD)
		r.exitFD = -1
	}
}
