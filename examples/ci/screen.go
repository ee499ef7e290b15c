package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A screen shows the lines of all steps, and below them on a terminal how many have ended.
type screen struct {
	width int // of the longest name

	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar // nil without showBar
}

// showBar is for a terminal. It comes before the first line.
func (s *screen) showBar(steps int) {
	s.bar = progressbar.NewOptions(steps, progressbar.OptionSetWriter(s.w), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true))
	_ = s.bar.RenderBlank()
}

func (s *screen) prefix(name string) string { return fmt.Sprintf("%-*s | ", s.width, name) }

// Write writes whole lines.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar == nil {
		return s.w.Write(p)
	}
	_ = s.bar.Clear()
	n, err := s.w.Write(p)
	_ = s.bar.RenderBlank() // it is blank only at 0
	return n, err
}

// say writes a line of ours about a step.
func (s *screen) say(name, what string) { _, _ = fmt.Fprintf(s, "%-*s * %s\n", s.width, name, what) }

func (s *screen) ended(r *result) {
	what := string(r.state)
	if r.tries > 0 {
		what += " after " + r.took.Round(time.Millisecond).String()
	}
	if r.why != "" {
		what += ": " + r.why
	}
	s.say(r.Name, what)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Add(1)
	}
}

// close leaves the lines alone on the terminal.
func (s *screen) close() {
	if s.bar != nil {
		_ = s.bar.Finish()
	}
}
