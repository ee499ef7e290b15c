package drain

import (
	"bytes"
	"syscall"
)

// A scriptedPipe plays the reading end of an output pipe: one step a Read. After the last step it is
// at its end. A step whose data does not fit is read in parts.
type scriptedPipe struct {
	steps []readStep
	asked []int // the length of each Read
}

type readStep struct {
	data string
	err  error
}

var nothingYet = readStep{err: syscall.EAGAIN}

func (p *scriptedPipe) Read(b []byte) (int, error) {
	p.asked = append(p.asked, len(b))
	if len(p.steps) == 0 {
		return 0, nil
	}
	s := &p.steps[0]
	n := copy(b, s.data)
	if s.data = s.data[n:]; s.data != "" {
		return n, nil
	}
	err := s.err
	p.steps = p.steps[1:]
	return n, err
}

// reads returns a pipe that gives the strings, one a Read, and ends.
func reads(data ...string) *scriptedPipe {
	p := new(scriptedPipe)
	for _, s := range data {
		p.steps = append(p.steps, readStep{data: s})
	}
	return p
}

// A scriptedSink plays the writing end of an input pipe: one step a Write. After the last step it
// takes everything.
type scriptedSink struct {
	steps []writeStep
	got   bytes.Buffer
	calls int
}

type writeStep struct {
	take int // at most
	err  error
}

var full = writeStep{err: syscall.EAGAIN}

func (s *scriptedSink) Write(p []byte) (int, error) {
	s.calls++
	if len(s.steps) == 0 {
		return s.got.Write(p)
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	n, _ := s.got.Write(p[:min(step.take, len(p))])
	return n, step.err
}
