package stdio

import (
	"io"
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/pty"
)

// Streams are the standard streams of a command, by descriptor. They belong to the goroutine of their run.
type Streams struct {
	Each [3]Stream
	// ChildEnds is the closing of the child's ends, which a process can hold up.
	ChildEnds  pipe.Closing
	LastOutput time.Time
	Idle       bool // LastOutput is of interest

	pty     *pty.Terminal   // of the command; else nil
	climber *ladder.Climber // its poller watches them
}

// Init makes the poller of c watch the streams.
func (all *Streams) Init(c *ladder.Climber) { all.climber = c }

// CloseChildEnds closes the child's ends, so that the command's exit is the end of the pipe.
func (all *Streams) CloseChildEnds() {
	var files [3]*os.File
	for i := range all.Each {
		files[i], all.Each[i].Child = all.Each[i].Child, nil
	}
	if files != [3]*os.File{} {
		all.ChildEnds = pipe.CloseFiles(files, all.climber.Wake)
	}
}

// Feed begins to read the caller's Reader. It comes after the start: one that fails reads nothing.
func (all *Streams) Feed(stdin io.Reader) {
	if s := &all.Each[0]; s.Kind == StreamInput {
		s.In.Feed(&s.End, all.typed(stdin), all.climber.Wake)
		s.In.Lend(s)
	}
}

// Begin begins to watch the pipes, and writes what can be written at once.
func (all *Streams) Begin() {
	for i := range all.Each {
		switch s := &all.Each[i]; {
		case s.Kind == StreamInput:
			all.Push(s)
		case s.Kind.IsOutput() && all.climber.Exited:
			all.Pull(i)
		case s.Kind.IsOutput():
			all.watch(i, poll.Read)
		}
	}
}

func (all *Streams) watch(fd int, dir poll.Direction) {
	s := &all.Each[fd]
	if s.Watched || !s.End.Open() {
		return
	}
	if err := all.climber.Poller.Add(s.End.FD(), dir, fd); err != nil {
		all.climber.Blind = true
		return
	}
	s.Watched = true
}

// Unwatch ends the watch on a stream.
func (all *Streams) Unwatch(s *Stream) {
	if s.Watched {
		s.Watched = false
		_ = all.climber.Poller.Remove(s.End.FD())
	}
}

// Close closes our end: the command's end of file, or the end of its output.
func (all *Streams) Close(s *Stream) {
	if s.End.Open() {
		all.Unwatch(s) // before: a child between fork and exec may have a copy
		s.End.Close()
	}
}

// CloseAll gives up what a start that failed had opened.
func (all *Streams) CloseAll() {
	all.CloseChildEnds()
	all.ReleasePTY()
	for i := range all.Each {
		all.Close(&all.Each[i])
	}
}

// Resume tries the streams that wait for a Reader or Writer, and if the poller has failed all of them.
func (all *Streams) Resume() {
	for i := range all.Each {
		s := &all.Each[i]
		if !s.End.Open() || s.Watched && !all.climber.Blind {
			continue
		}
		if s.Kind == StreamInput {
			all.Push(s)
		} else {
			all.Pull(i)
		}
	}
}

// Pull moves what one turn may of an output. It does not go on until the pipe is empty: one turn takes all that the
// pipe holds, and a writer that fills it again has it locked meanwhile.
func (all *Streams) Pull(fd int) {
	s := &all.Each[fd]
	before := s.Out.Total()
	state := s.Out.Pull(s.Limit())
	s.Owed = max(s.Owed-int(s.Out.Total()-before), 0)
	switch state {
	case drain.Moved:
		if all.Idle {
			all.LastOutput = time.Now()
		}
		all.watch(fd, poll.Read)
	case drain.Starved:
		if s.Final {
			s.Owed = 0
		}
		all.watch(fd, poll.Read)
	case drain.Blocked, drain.Drawn, drain.Held: // a wake-up comes when it goes on
		all.Unwatch(s)
	case drain.Ended:
		all.Close(s)
	}
	s.Blocked = state == drain.Blocked
}

// Push moves what can be moved of the input.
func (all *Streams) Push(s *Stream) {
	switch s.In.Push() {
	case drain.Blocked, drain.Moved:
		all.watch(0, poll.Write)
	case drain.Starved, drain.Held:
		all.Unwatch(s)
	case drain.Ended:
		all.Close(s)
	}
}

// WriterBusy reports whether an output waits for a Writer of the caller's.
func (all *Streams) WriterBusy() bool {
	for i := range all.Each {
		if s := &all.Each[i]; s.Kind.HasWriter() && s.End.Open() && (s.Blocked || s.DrawingBlocked()) {
			return true
		}
	}
	return false
}

// NoteDrawn updates LastOutput where the goroutine of a Writer reads the pipe.
func (all *Streams) NoteDrawn() {
	for i := range all.Each {
		if s := &all.Each[i]; s.Kind.HasWriter() {
			all.LastOutput = ladder.Later(all.LastOutput, s.Out.LastDrawn())
		}
	}
}

// WriterFailed reports whether a Writer of the caller's has returned an error.
func (all *Streams) WriterFailed() bool {
	for i := range all.Each {
		if s := &all.Each[i]; s.Kind.HasWriter() && s.Out.Err() != nil {
			return true
		}
	}
	return false
}

// Overflowed reports whether a stream has exceeded its limit.
func (all *Streams) Overflowed() bool {
	for i := range all.Each {
		if s := &all.Each[i]; s.Kind.IsOutput() && s.Out.Exceeded() {
			return true
		}
	}
	return false
}

// Abandon ends all calls of the caller's Readers and Writers.
func (all *Streams) Abandon() {
	for i := range all.Each {
		if s := &all.Each[i]; s.Kind.IsOutput() {
			s.Out.Abandon()
		}
	}
	if s := &all.Each[0]; s.Kind == StreamInput {
		s.In.Quit()
	}
}

// Seal puts what is kept in order: from now on it is only read.
func (all *Streams) Seal() {
	for i := range all.Each {
		if s := &all.Each[i]; s.Kind.IsOutput() && s.Kind.Keeps() {
			s.Out.Seal()
			s.Keep.Kept()
		}
	}
}

// OutputPipes returns the inode numbers of the outputs, which name them in /proc.
func (all *Streams) OutputPipes() []uint64 {
	var pipes []uint64
	for i := 1; i < len(all.Each); i++ {
		if s := &all.Each[i]; s.Kind.IsOutput() && s.End.Open() {
			pipes = append(pipes, s.End.Inode())
		}
	}
	return pipes
}
