package safeexec

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/lines"
)

// An Overflow says what happens when a command writes more than the output limit.
type Overflow int

// The policies at the output limit.
const (
	// OverflowTruncate goes on reading and counting, and keeps the first and the last bytes.
	OverflowTruncate Overflow = iota
	// OverflowStop ends the run with [ErrOutputLimit]. It limits streams with a Writer of the
	// caller's as well, which never gets more than the limit.
	OverflowStop
)

// WithOutputLimit sets how many bytes of each captured stream are kept, half of them from its
// beginning and half from its end. Zero keeps none; all are read and counted in any case.
func WithOutputLimit(n int64) Option { return outputLimitOption(n) }

// WithOverflow sets what happens when a stream exceeds the output limit.
func WithOverflow(policy Overflow) Option { return overflowOption(policy) }

// WithStopOnWriteError ends the run when a Writer of the command's Stdout or Stderr fails, with
// [CauseWriterFailed]. Without it the command runs on and its output is dropped, as counted in
// [Stream.Dropped]; the error matches [ErrWriterFailed] in either case.
func WithStopOnWriteError() Option { return stopWriteOption{} }

type teeOption [2]io.Writer

func (o teeOption) apply(c *config) { c.tee = o }

// WithTee also writes the output that the [Result] keeps to these Writers, as it comes: stdout, stderr, or both;
// nil for none. It is for streams whose field in the command is nil. The Result does not depend on the Writer: one
// that fails or blocks is treated as cmd.Stdout would be, with [ErrWriterFailed] or [ErrWriterStuck], while the bytes
// are kept all the same. A Writer that is both is never called twice at once.
func WithTee(stdout, stderr io.Writer) Option { return teeOption{stdout, stderr} }

// WithMergedOutput gives the command one pipe for standard output and standard error: both are in Result.Stdout, in the
// order in which they were written, and go to the Writer or the file in cmd.Stdout if there is one. cmd.Stderr must be
// nil. [CombinedOutput] has it.
func WithMergedOutput() Option { return mergeOption{} }

func (c *config) checkTee(cmd *exec.Cmd) error {
	switch {
	case c.Merge && cmd.Stderr != nil && !engine.SameWriter(cmd.Stdout, cmd.Stderr):
		return &ConfigError{Name: "WithMergedOutput", Reason: "and Stderr are both set"}
	case c.Merge && c.tee[1] != nil:
		return &ConfigError{Name: "WithTee", Reason: "has a Writer for standard error, which is merged"}
	case c.tee[0] != nil && cmd.Stdout != nil:
		return &ConfigError{Name: "WithTee", Reason: "and Stdout are both set"}
	case c.tee[1] != nil && cmd.Stderr != nil:
		return &ConfigError{Name: "WithTee", Reason: "and Stderr are both set"}
	case c.lines != nil && cmd.Stdout != nil && (cmd.Stderr != nil || c.Merge):
		return &ConfigError{Name: "WithLines", Reason: "needs an output that the command has no Writer or file for"}
	}
	return nil
}

// Tee returns where an output goes besides being kept; nil if nowhere.
func (r *run) Tee(fd int) *engine.Fanout {
	var f engine.Fanout
	if w := r.cfg.tee[fd-1]; w != nil {
		if r.teeLock == nil && engine.SameWriter(r.cfg.tee[0], r.cfg.tee[1]) {
			r.teeLock = new(sync.Mutex)
		}
		f.To = append(f.To, engine.Follower{Writer: engine.Alone(w, r.teeLock), End: lastLine(w)})
	}
	if r.cfg.lines != nil {
		w := r.lineWriter(fd)
		f.To = append(f.To, engine.Follower{Writer: w, End: w.end})
	}
	if f.To == nil {
		return nil
	}
	return &f
}

// A Line is one line of output, or a piece of a long one.
type Line struct {
	Stream int       // 1: standard output, 2: standard error
	Time   time.Time // when it was read
	Text   string    // without its end
	// Partial says that the line goes on in the next of its stream: it is longer than 64 KiB. A piece ends between two
	// characters.
	Partial bool
}

type linesOption func(Line)

func (o linesOption) apply(c *config) { c.lines = o }

// WithLines calls f with each line of output as it comes. There is no limit to the length of a line: a long one
// comes in pieces, [Line.Partial]. A line ends with "\n", "\r\n" or "\r", so that each state of a progress bar is a
// line, and the last one need not have an end. The [Result] keeps output as without WithLines. f gets no lines of a
// stream whose field in the command is set; at least one must be nil.
//
// f is called by one goroutine at a time. It may call the methods of [Process] that do not wait for the end, such as
// [Process.Kill]. While it does not return, the command is held up once its pipe is full, and the run is bounded as
// with a Writer: see [WithDrainTimeout], [ErrWriterStuck]. A panic of f ends its calls for the stream, and is in the
// error, which matches [ErrWriterFailed].
func WithLines(f func(Line)) Option { return linesOption(f) }

// A lineWriter calls a function with the lines of a stream.
type lineWriter struct {
	*lines.Splitter
	now time.Time // when what is being written was read
}

func newLineWriter(fd int, f func(Line)) *lineWriter {
	w := new(lineWriter)
	w.Splitter = lines.New(func(text []byte, partial bool) {
		f(Line{Stream: fd, Time: w.now, Text: string(text), Partial: partial})
	})
	return w
}

func (w *lineWriter) Write(p []byte) (int, error) {
	return len(p), w.contain(func() { _, _ = w.Splitter.Write(p) })
}

func (w *lineWriter) end() error { return w.contain(w.Flush) }

// contain calls f, and makes a panic an error.
func (w *lineWriter) contain(f func()) (err error) {
	done := false
	defer func() {
		if !done {
			if v := recover(); v != nil { // else the function has ended its goroutine
				err = fmt.Errorf("function of WithLines panicked: %v", v)
			}
		}
	}()
	w.now = time.Now()
	f()
	done = true
	return nil
}

// lineWriter returns what has the function of WithLines called for an output.
func (r *run) lineWriter(fd int) *lineWriter {
	if r.linesLock == nil {
		r.linesLock = new(sync.Mutex)
	}
	f, lock := r.cfg.lines, r.linesLock
	return newLineWriter(fd, func(line Line) {
		lock.Lock()
		defer lock.Unlock()
		f(line)
	})
}

// Prefix returns a Writer for cmd.Stdout, cmd.Stderr or [WithTee] that writes each line to w with a prefix, as it
// comes:
//
//	cmd.Stdout = safeexec.Prefix(os.Stdout, "step | ")
//
// Any number of them can write to one w, which need not be safe for concurrent use: no line is torn. Lines are those of
// [WithLines]; one over 64 KiB becomes several. A last line without an end is written when the stream of the
// run has ended, and by Close where the Writer is used in another way. Close does not close w.
func Prefix(w io.Writer, prefix string) io.WriteCloser { return lines.NewPrefixer(w, prefix) }

// lastLine returns what writes the last line to a Writer; nil if nothing is to be done.
func lastLine(w io.Writer) func() error {
	if p, ok := w.(*lines.Prefixer); ok {
		return p.Close
	}
	return nil
}

// Output returns what there is so far of the outputs, while the command runs and after its end: of a stream that is
// kept, copies of its first and last bytes, as they will be in the [Result]; of one with a Writer the numbers, where
// Dropped includes what has not reached the Writer yet. It may be called from any goroutine.
func (p *Process) Output() (stdout, stderr Stream) {
	look := func() {
		stdout, stderr = streamOf(p.run.life.Streams.Each[1].SoFar()), streamOf(p.run.life.Streams.Each[2].SoFar())
	}
	if !p.ask(look) {
		<-p.done // from the end of the outputs on it is a moment
		stdout, stderr = streamOf(p.run.life.Streams.Each[1].Summary()), streamOf(p.run.life.Streams.Each[2].Summary())
	}
	return stdout, stderr
}

// Lines returns the lines of the outputs that are kept, as they come: see [WithLines]. It begins with what is kept
// when the loop begins, and ends with the run, or with ctx. Lines that were read before the loop have its time.
// Nothing is lost after that: while the loop's body does not return, the command is held up once its pipe is full, and
// the run is bounded as with a Writer.
//
// To leave the loop early is no matter to the run: its output is read and kept as before. Several loops can be at
// it at once, and after the end a loop has the lines that were kept.
func (p *Process) Lines(ctx context.Context) iter.Seq[Line] {
	return func(yield func(Line) bool) {
		f := &following{
			pieces: make(chan piece, ahead), used: make(chan []byte, ahead+1), left: make(chan struct{}), done: p.done,
		}
		defer f.leave()
		on := true
		var split [2]*lineWriter
		for i := range split {
			split[i] = newLineWriter(i+1, func(line Line) { on = on && yield(line) })
		}
		take := func(piece piece) {
			w := split[piece.fd-1]
			w.now = piece.at
			_, _ = w.Splitter.Write(piece.text)
		}
		finish := func(past Stream, fd int) {
			take(piece{fd, time.Now(), past.Head()})
			if past.Dropped > 0 {
				split[fd-1].Flush()
				take(piece{fd, time.Now(), past.Tail()})
			}
		}
		p.ask(func() { f.begin(p.run) })
		for i, past := range f.past {
			finish(past, i+1)
		}
		for on {
			select {
			case piece := <-f.pieces:
				take(piece)
				f.giveBack(piece.text)
				continue
			case <-ctx.Done():
				return
			case <-p.done:
			}
			select {
			case piece := <-f.pieces:
				take(piece)
				continue
			default:
			}
			for i := range split {
				if s := &p.run.life.Streams.Each[i+1]; f.to[i] == nil && s.Kind.Keeps() {
					finish(streamOf(s.Summary()), i+1)
				}
				split[i].Flush()
			}
			return
		}
	}
}

// ahead is how many pieces are read ahead of the loop, so that neither waits for the other at each of them.
const ahead = 4

// A piece is a part of an output.
type piece struct {
	fd   int
	at   time.Time
	text []byte
}

// A following is a loop over lines.
type following struct {
	pieces chan piece
	used   chan []byte   // texts of pieces that are over
	left   chan struct{} // closed by leave
	done   <-chan struct{}

	// Written by begin.
	to   [2]*engine.Fanout
	by   [2]*pieceWriter
	past [2]Stream
}

// begin has the outputs that are kept delivered to f. One that a process holds is not, until the end.
func (f *following) begin(r *run) {
	for i := range f.to {
		w := &pieceWriter{f, i + 1}
		past, from := r.life.Streams.Each[i+1].Tap(w, r.life.Wake)
		if from != nil {
			f.to[i], f.by[i], f.past[i] = from, w, streamOf(past)
		}
	}
}

func (f *following) giveBack(text []byte) {
	select {
	case f.used <- text:
	default:
	}
}

func (f *following) leave() {
	close(f.left)
	for i, to := range f.to {
		if to != nil {
			to.Remove(f.by[i])
		}
	}
}

// A pieceWriter hands what is written to the loop.
type pieceWriter struct {
	f  *following
	fd int
}

func (w *pieceWriter) Write(p []byte) (int, error) {
	select {
	case <-w.f.left:
		return len(p), nil
	default:
	}
	var text []byte
	select {
	case text = <-w.f.used:
	default:
	}
	select {
	case w.f.pieces <- piece{w.fd, time.Now(), append(text[:0], p...)}:
	case <-w.f.left:
	case <-w.f.done:
	}
	return len(p), nil
}

// A streamRecord is a Stream in JSON.
type streamRecord struct {
	Total, Dropped int64
	Err            string `json:",omitempty"`
	Head, Tail     []byte `json:",omitempty"`
}

// MarshalJSON returns the stream with the bytes kept, which may hold secrets: Head and Tail, in base64.
func (s Stream) MarshalJSON() ([]byte, error) {
	return json.Marshal(streamRecord{s.Total, s.Dropped, textOf(s.Err), s.Head(), s.Tail()})
}

// UnmarshalJSON reads what MarshalJSON wrote. An error has its text and nothing else.
func (s *Stream) UnmarshalJSON(text []byte) error {
	var r streamRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	*s = Stream{Total: r.Total, Dropped: r.Dropped, Err: errorOf(r.Err), head: len(r.Head)}
	if r.Head != nil || r.Tail != nil {
		s.data = slices.Concat(r.Head, r.Tail)
	}
	return nil
}

// A plainResult is a Result without its methods.
type plainResult Result

// A resultRecord is a Result in JSON. Its own fields are in the place of those of the same name.
type resultRecord struct {
	*plainResult
	State              *struct{} `json:",omitempty"`
	FDErr, ObserverErr string    `json:",omitempty"`
	Refusal            int       `json:",omitempty"`
}

// MarshalJSON returns all but State, with the outputs: see [Stream.MarshalJSON].
func (r Result) MarshalJSON() ([]byte, error) {
	return json.Marshal(resultRecord{
		plainResult: (*plainResult)(&r), FDErr: textOf(r.FDErr), ObserverErr: textOf(r.ObserverErr), Refusal: r.refusal,
	})
}

// UnmarshalJSON reads what MarshalJSON wrote. State is nil, an error has its text and nothing else, and a [LeftPipe]
// has ended.
func (r *Result) UnmarshalJSON(text []byte) error {
	var read Result
	record := resultRecord{plainResult: (*plainResult)(&read)}
	if err := json.Unmarshal(text, &record); err != nil {
		return err
	}
	read.FDErr, read.ObserverErr, read.refusal = errorOf(record.FDErr), errorOf(record.ObserverErr), record.Refusal
	*r = read
	return nil
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func errorOf(text string) error {
	if text == "" {
		return nil
	}
	return errors.New(text)
}
