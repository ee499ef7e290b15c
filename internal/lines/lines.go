// Package lines cuts a stream of bytes into lines, as they come and in bounded memory.
package lines

import (
	"bytes"
	"unicode/utf8"
)

// MaxPiece is the longest piece that a Splitter hands over, in bytes. A longer line comes in several.
const MaxPiece = 64 << 10

// A Splitter cuts what is written to it into lines and hands each to a function. A line ends with "\n",
// "\r\n" or "\r": a progress bar that returns to the start of its line gives a line for each state, and
// nothing for a "\r" that follows nothing. The zero Splitter has no function; use [New].
//
// A Splitter is not safe for concurrent use.
type Splitter struct {
	emit func(text []byte, partial bool)

	rest     []byte // of a line whose end has not come; at most MaxPiece, and empty only before its first byte
	returned bool   // "\r" ended a line and nothing came since: a "\n" belongs to it
}

// New returns a Splitter that calls emit with each line, without its end. The text is valid during the
// call only. Of a line longer than [MaxPiece], partial is true for each piece but the last; a piece ends
// between two UTF-8 sequences where the text has any.
func New(emit func(text []byte, partial bool)) *Splitter { return &Splitter{emit: emit} }

// Write takes the next bytes of the stream. It never fails.
func (s *Splitter) Write(p []byte) (int, error) {
	n := len(p)
	plain := bytes.IndexByte(p, '\r') < 0 // of most, which need not be looked through line by line
	for {
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			s.hold(s.returns(p))
			return n, nil
		}
		text := p[:end]
		if !plain {
			text = s.returns(text)
		}
		if len(text) > 0 || !s.returned {
			s.finish(text)
		}
		s.returned = false
		p = p[end+1:]
	}
}

// returns hands over the lines of p that end with "\r", and returns what follows the last.
func (s *Splitter) returns(p []byte) []byte {
	for {
		end := bytes.IndexByte(p, '\r')
		if end < 0 {
			break
		}
		if end > 0 || len(s.rest) > 0 {
			s.finish(p[:end])
			s.returned = true
		}
		p = p[end+1:]
	}
	if len(p) > 0 {
		s.returned = false
	}
	return p
}

// finish hands over the line whose last part is text.
func (s *Splitter) finish(text []byte) {
	if len(s.rest)+len(text) > MaxPiece {
		s.hold(text)
		text = nil
	}
	if len(s.rest) > 0 {
		s.rest = append(s.rest, text...)
		text = s.rest
	}
	s.emit(text, false)
	s.rest = s.rest[:0]
}

// hold keeps the part of a line whose end has not come, and hands over pieces of one that is too long to
// keep. It always keeps a byte, so that the last piece is never empty.
func (s *Splitter) hold(p []byte) {
	for len(s.rest)+len(p) > MaxPiece {
		n := MaxPiece - len(s.rest)
		s.rest = append(s.rest, p[:n]...)
		p = p[n:]
		cut := wholeRunes(s.rest)
		s.emit(s.rest[:cut], true)
		s.rest = append(s.rest[:0], s.rest[cut:]...)
	}
	s.rest = append(s.rest, p...)
}

// Flush hands over the last line if it has no end. The Splitter can be used again.
func (s *Splitter) Flush() {
	if len(s.rest) > 0 {
		s.emit(s.rest, false)
	}
	s.rest, s.returned = nil, false
}

// wholeRunes returns the length of p without a UTF-8 sequence that is cut off at its end. Bytes that are
// not UTF-8 are left whole.
func wholeRunes(p []byte) int {
	for i := 1; i <= min(utf8.UTFMax-1, len(p)-1); i++ {
		if c := p[len(p)-i]; utf8.RuneStart(c) {
			if !utf8.FullRune(p[len(p)-i:]) {
				return len(p) - i
			}
			break
		}
	}
	return len(p)
}
