package safeexec

import (
	"io"
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A stream is one standard stream of the command. The zero stream does not pass through this
// process: the caller's *os.File, or /dev/null.
type stream struct {
	end     pipe.End // our end
	child   *os.File // the child's end; nil once closed
	in      *drain.Input
	*output // of an output that passes through this process; else nil

	// Used by drain.
	owed     int           // bytes that were in the pipe when it was given up, if final
	look     time.Duration // between two looks for who holds the pipe
	nextLook time.Time
	final    bool // owed is set
	finished bool // nothing of it is under way any more
	lost     bool // a call on the pipe was left behind
	// abandoned says that the caller's Writer was given up: what still comes is dropped.
	abandoned bool

	kind    streamKind
	watched bool // by the poller; if not, it waits for the caller's Reader or Writer
	blocked bool // an output waits for the caller's Writer
}

// An output is where the bytes of a stream go.
type output struct {
	out    drain.Output
	keep   drain.HeadTail // what is kept, if it is captured
	fanout *fanout        // of streamTee
}

// A streamKind says what passes through this process.
type streamKind int8

const (
	streamDirect   streamKind = iota // nothing
	streamInput                      // in
	streamCaptured                   // out, into keep
	streamWriter                     // out, to the caller's Writer
	streamTee                        // out, into keep and to Writers: from the beginning, or once they are there
)

func (k streamKind) isOutput() bool  { return k.keeps() || k.hasWriter() }
func (k streamKind) keeps() bool     { return k == streamCaptured || k == streamTee }
func (k streamKind) hasWriter() bool { return k == streamWriter || k == streamTee }

// openStreams makes the pipes. At the first error the caller closes what there is.
func (r *run) openStreams() error {
	if r.cmd.Stdin != nil && !direct(r.cmd.Stdin) {
		s := &r.streams[0]
		s.end.Notify(r.wake)
		var err error
		if s.child, err = s.end.Input(); err != nil {
			return err
		}
		s.kind, s.in = streamInput, new(drain.Input)
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
	if direct(w) {
		return nil
	}
	s := &r.streams[fd]
	s.end.Notify(r.wake)
	var err error
	if s.child, err = s.end.Output(); err != nil {
		return err
	}
	s.output = new(output)
	if w == nil {
		s.kind = streamCaptured
		s.keep.Limit(int(r.cfg.outputLimit))
		s.out.Capture(&s.end, &s.keep)
		if f := r.tees(fd); f != nil {
			s.deliver(f, r.wake)
		}
	} else {
		s.kind = streamWriter
		s.out.Stream(&s.end, w, r.wake)
		s.out.AtEnd(lastLine(w))
		s.out.Lend(s.lend)
	}
	if r.cfg.overflow == OverflowStop {
		s.out.StopAt(r.cfg.outputLimit)
	}
	return nil
}

// lend makes our end one that the goroutine of the caller's Writer can wait for.
func (s *stream) lend() drain.Source {
	if w, err := s.end.Waiter(); err == nil {
		return w
	}
	return nil
}

// LendRoom makes our end one that the goroutine of the caller's Reader can wait for.
func (s *stream) LendRoom() drain.Sink {
	if w, err := s.end.Waiter(); err == nil {
		return w
	}
	return nil
}

// childReader returns what the child gets for standard input.
func (s *stream) childReader(callers io.Reader) io.Reader {
	if s.child != nil {
		return s.child
	}
	if callers == nil {
		if null, err := proctree.DevNull(); err == nil {
			return null
		}
	}
	return callers
}

// childWriter returns what the child gets for an output.
func (s *stream) childWriter(callers io.Writer) io.Writer {
	if s.child != nil {
		return s.child
	}
	return callers
}

// closeChildEnds leaves the command alone with its ends, so that its exit is the end of the pipe.
func (r *run) closeChildEnds() {
	var files [3]*os.File
	for i := range r.streams {
		files[i], r.streams[i].child = r.streams[i].child, nil
	}
	if files != [3]*os.File{} {
		r.childEnds = pipe.CloseFiles(files, r.wake)
	}
}

// feed begins to read the caller's Reader: a start that fails reads nothing, and after Start the field is the
// caller's again.
func (r *run) feed() {
	if s := &r.streams[0]; s.kind == streamInput {
		s.in.Feed(&s.end, r.cmd.Stdin, r.wake)
		s.in.Lend(s)
	}
}

// watchStreams begins to watch the pipes. What can be written at once is written at once.
func (r *run) watchStreams() {
	for i := range r.streams {
		switch s := &r.streams[i]; {
		case s.kind == streamInput:
			r.push(s)
		case s.kind.isOutput() && r.Exited:
			r.pull(i)
		case s.kind.isOutput():
			r.watch(i, poll.Read)
		}
	}
}

func (r *run) watch(fd int, dir poll.Direction) {
	s := &r.streams[fd]
	if s.watched || !s.end.Open() {
		return
	}
	if err := r.Poller.Add(s.end.FD(), dir, fd); err != nil {
		r.Blind = true
		return
	}
	s.watched = true
}

func (r *run) unwatchStream(s *stream) {
	if s.watched {
		s.watched = false
		_ = r.Poller.Remove(s.end.FD())
	}
}

// closeStream closes our end: the command's end of file, or the end of its output.
func (r *run) closeStream(s *stream) {
	if s.end.Open() {
		r.unwatchStream(s) // before: a child between fork and exec may have a copy
		s.end.Close()
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
		case e.Token < engine.TokenExit && !r.streams[e.Token].end.Open():
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
	r.questions.answer()
}

// resume tries the streams that wait for a Reader or Writer, and without a poller all of them.
func (r *run) resume() {
	for i := range r.streams {
		s := &r.streams[i]
		if !s.end.Open() || s.watched && !r.Blind {
			continue
		}
		if s.kind == streamInput {
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
	before := s.out.Total()
	state := s.out.Pull(s.limit())
	s.owed = max(s.owed-int(s.out.Total()-before), 0)
	switch state {
	case drain.Moved:
		if r.cfg.idle > 0 {
			r.lastOutput = time.Now()
		}
		r.watch(fd, poll.Read)
	case drain.Starved:
		if s.final {
			s.owed = 0
		}
		r.watch(fd, poll.Read)
	case drain.Blocked, drain.Drawn, drain.Held: // whoever makes it go on wakes the poller
		r.unwatchStream(s)
	case drain.Ended:
		r.closeStream(s)
	}
	s.blocked = state == drain.Blocked
}

// limit returns how much the next pull may read, zero for no limit. Once it is known what is owed, that
// is all; where it is nothing, one byte, so that the end is still met.
func (s *stream) limit() int {
	if s.final {
		return max(s.owed, 1)
	}
	return 0
}

// push moves what can be moved of the input.
func (r *run) push(s *stream) {
	switch s.in.Push() {
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
		if s := &r.streams[i]; s.kind.hasWriter() && s.end.Open() && (s.blocked || s.drawingBlocked()) {
			return true
		}
	}
	return false
}

// drawingBlocked reports whether bytes wait for a Writer whose goroutine reads the pipe.
func (s *stream) drawingBlocked() bool {
	if !s.out.Drawing() || s.out.Busy().IsZero() {
		return false
	}
	return s.end.Readable()
}

// noteDrawn brings lastOutput up to date where the goroutine of a Writer reads the pipe.
func (r *run) noteDrawn() {
	for i := range r.streams {
		if s := &r.streams[i]; s.kind.hasWriter() {
			r.lastOutput = engine.Later(r.lastOutput, s.out.LastDrawn())
		}
	}
}

// writerFailed reports whether a Writer of the caller's has returned an error.
func (r *run) writerFailed() bool {
	for i := range r.streams {
		if s := &r.streams[i]; s.kind.hasWriter() && s.out.Err() != nil {
			return true
		}
	}
	return false
}

// overflowed reports whether a stream has exceeded its limit.
func (r *run) overflowed() bool {
	for i := range r.streams {
		if s := &r.streams[i]; s.kind.isOutput() && s.out.Exceeded() {
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
