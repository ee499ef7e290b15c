package safeexec

import (
	"context"
	"iter"
	"time"

	"github.com/seed841d8200/safeexec/internal/engine"
)

// Output returns what there is so far of the outputs, while the command runs and after its end: of a stream that is
// kept, copies of its first and last bytes, as they will be in the [Result]; of one with a Writer the numbers, where
// Dropped includes what has not reached the Writer yet. It may be called from any goroutine.
func (p *Process) Output() (stdout, stderr Stream) {
	look := func() {
		stdout, stderr = streamOf(p.run.streams.Each[1].SoFar()), streamOf(p.run.streams.Each[2].SoFar())
	}
	if !p.ask(look) {
		<-p.done // from the end of the outputs on it is a moment
		stdout, stderr = streamOf(p.run.streams.Each[1].Summary()), streamOf(p.run.streams.Each[2].Summary())
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
			pieces: make(chan piece, 1), used: make(chan []byte, 2), left: make(chan struct{}), done: p.done,
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
		p.ask(func() { p.run.follow(f) })
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
				if s := &p.run.streams.Each[i+1]; f.to[i] == nil && s.Kind.IsOutput() && s.Kind.Keeps() {
					finish(streamOf(s.Summary()), i+1)
				}
				split[i].Flush()
			}
			return
		}
	}
}

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

	// Written by follow.
	to   [2]*engine.Fanout
	by   [2]*pieceWriter
	past [2]Stream
}

// follow has the outputs that are kept delivered to f. One that a process holds is not, until the end.
func (r *run) follow(f *following) {
	for i := range f.to {
		s := &r.streams.Each[i+1]
		if !s.Kind.IsOutput() || !s.Kind.Keeps() || s.Finished {
			continue
		}
		if s.Fanout == nil && !s.Deliver(&engine.Fanout{At: s.Keep.Total()}, r.Wake) {
			continue
		}
		f.to[i], f.by[i] = s.Fanout, &pieceWriter{f, i + 1}
		f.past[i] = streamOf(s.Follow(f.by[i]))
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
