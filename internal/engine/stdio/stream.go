package stdio

import (
	"io"
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/drain"
	"github.com/seed841d8200/safeexec/internal/pipe"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A Stream is one standard stream of the command. The zero Stream does not pass through this
// process: the caller's *os.File, or /dev/null.
type Stream struct {
	End     pipe.End // our end
	Child   *os.File // the child's end; nil once closed
	In      *drain.Input
	*Output // of an output that passes through this process; else nil

	// Used by drain.
	Owed     int           // bytes that were in the pipe when it was given up, if Final
	Look     time.Duration // between two looks for the holders of the pipe
	NextLook time.Time
	overdue  time.Time // since when it is Held after the drain timeout
	Final    bool      // Owed is set
	Finished bool      // nothing of it is under way any more
	Lost     bool      // a call on the pipe was left behind
	// Abandoned says that the caller's Writer was given up: what still comes is dropped.
	Abandoned bool

	Kind    StreamKind
	Watched bool // by the poller; if not, it waits for the caller's Reader or Writer
	Blocked bool // an output waits for the caller's Writer
}

// An Output is where the bytes of a stream go.
type Output struct {
	Out    drain.Output
	Keep   drain.HeadTail // what is kept, if it is captured
	Fanout *Fanout        // of StreamTee
}

// A StreamKind says what passes through this process.
type StreamKind int8

// The kinds of streams.
const (
	StreamDirect   StreamKind = iota // nothing
	StreamInput                      // in
	StreamCaptured                   // out, into keep
	StreamWriter                     // out, to the caller's Writer
	StreamTee                        // out, into keep and to Writers: from the beginning, or once they are there
)

// IsOutput reports whether it is an output that passes through this process.
func (k StreamKind) IsOutput() bool { return k.Keeps() || k.HasWriter() }

// Keeps reports whether it is kept.
func (k StreamKind) Keeps() bool { return k == StreamCaptured || k == StreamTee }

// HasWriter reports whether a Writer of the caller's gets it.
func (k StreamKind) HasWriter() bool { return k == StreamWriter || k == StreamTee }

// Deliver has a stream that is kept delivered to f as well. It reports false if it cannot at the moment.
func (s *Stream) Deliver(f *Fanout, wake func()) bool {
	if !s.Out.Tee(f, wake) {
		return false
	}
	s.Fanout, s.Kind = f, StreamTee
	s.Out.AtEnd(f.End)
	s.Out.Lend(s.Lend)
	return true
}

// Capture has an output kept, limit bytes of it.
func (s *Stream) Capture(limit int) {
	s.Kind = StreamCaptured
	s.Keep.Limit(limit)
	s.Out.Capture(&s.End, &s.Keep)
}

// Stream has an output delivered to w, and end called behind its last byte, unless it is nil.
func (s *Stream) Stream(w io.Writer, end func() error, wake func()) {
	s.Kind = StreamWriter
	s.Out.Stream(&s.End, w, wake)
	s.Out.AtEnd(end)
	s.Out.Lend(s.Lend)
}

// Tap writes to w as well, beginning with the next byte, and returns what was kept before. It returns no Fanout if w
// gets nothing: the stream is not kept, or has ended, or a process holds it. wake is called when the stream can go on.
func (s *Stream) Tap(w io.Writer, wake func()) (o Kept, from *Fanout) {
	if !s.Kind.IsOutput() || !s.Kind.Keeps() || s.Finished {
		return o, nil
	}
	if s.Fanout == nil && !s.Deliver(&Fanout{At: s.Keep.Total()}, wake) {
		return o, nil
	}
	s.Out.Look(func(keep *drain.HeadTail) {
		o.Total = keep.Total()
		o.Data, o.Head = keep.Copy()
		o.Dropped = o.Total - int64(len(o.Data))
		s.Fanout.Add(Follower{Writer: w, From: o.Total})
	})
	return o, s.Fanout
}

// Lend returns our end as one that the goroutine of the caller's Writer can wait for.
func (s *Stream) Lend() drain.Source {
	if w, err := s.End.Waiter(); err == nil {
		return w
	}
	return nil
}

// LendRoom returns our end as one that the goroutine of the caller's Reader can wait for.
func (s *Stream) LendRoom() drain.Sink {
	if w, err := s.End.Waiter(); err == nil {
		return w
	}
	return nil
}

// ChildReader returns what the child gets for standard input.
func (s *Stream) ChildReader(callers io.Reader) io.Reader {
	if s.Child != nil {
		return s.Child
	}
	if callers == nil {
		if null, err := proctree.DevNull(); err == nil {
			return null
		}
	}
	return callers
}

// ChildWriter returns what the child gets for an output.
func (s *Stream) ChildWriter(callers io.Writer) io.Writer {
	if s.Child != nil {
		return s.Child
	}
	return callers
}

// Limit returns how much the next pull may read, zero for no limit. Once Final it is what is owed, and at least one
// byte, so that the end is still met.
func (s *Stream) Limit() int {
	if s.Final {
		return max(s.Owed, 1)
	}
	return 0
}

// DrawingBlocked reports whether bytes wait for a Writer whose goroutine reads the pipe.
func (s *Stream) DrawingBlocked() bool {
	if !s.Out.Drawing() || s.Out.Busy().IsZero() {
		return false
	}
	return s.End.Readable()
}

// Held reports whether a call on the pipe has not returned: the run's, or a read of the Writer's goroutine from which
// the pipe was taken back. While it is lent the pipe is the goroutine's, calls included.
func (s *Stream) Held() bool {
	return !s.Out.Drawing() && (s.End.Held() || s.Out.Reading())
}

// HeldUntil returns until when a pipe that is Held is not given up: the given time, and then for as long as a call may
// take that no process holds up.
func (s *Stream) HeldUntil(given, now time.Time) time.Time {
	if now.Before(given) {
		return given
	}
	if s.overdue.IsZero() {
		s.overdue = now
	}
	return s.overdue.Add(callTime)
}

// NotHeld says that no call is late: the next one that is has its own time.
func (s *Stream) NotHeld() { s.overdue = time.Time{} }

// callTime is more than a call on a pipe takes that no process holds, on a busy machine.
const callTime = 50 * time.Millisecond

// ErrHeld says that a process holds the pipe.
var ErrHeld = drain.ErrHeld

// Kept is what a stream came to.
type Kept struct {
	Kind           StreamKind
	Total, Dropped int64
	Undelivered    int64 // bytes that did not reach the caller's Writer
	Err            error
	Data           []byte // head, and tail if bytes were dropped in between
	Head           int    // length of the head
}

// Summary is what is known of a stream that has ended.
func (s *Stream) Summary() Kept {
	if s.Kind == StreamInput {
		return Kept{Kind: StreamInput, Err: s.In.Err()}
	}
	if !s.Kind.IsOutput() {
		return Kept{}
	}
	o := Kept{Kind: s.Kind, Total: s.Out.Total(), Dropped: s.Out.Dropped(), Err: s.Out.Err()}
	if s.Kind.HasWriter() {
		o.Undelivered = o.Dropped
	}
	if s.Kind.Keeps() {
		head, tail := s.Keep.Kept()
		o.Data, o.Head = s.Keep.Bytes(), len(head)
		o.Dropped = o.Total - int64(len(head)+len(tail))
	}
	return o
}

// SoFar is Summary of a stream that goes on.
func (s *Stream) SoFar() Kept {
	if !s.Kind.IsOutput() {
		return Kept{}
	}
	o := Kept{Total: s.Out.Total(), Err: s.Out.Err()}
	if !s.Kind.Keeps() {
		o.Dropped = s.Out.Dropped()
		return o
	}
	s.Out.Look(func(keep *drain.HeadTail) { o.Data, o.Head = keep.Copy() })
	o.Dropped = o.Total - int64(len(o.Data))
	return o
}
