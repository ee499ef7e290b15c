// Package screen shows the lines of several steps, and on a terminal how many have ended.
package screen

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/seed841d8200/safeexec/examples/ci/report"
)

// A Screen shows the lines of all steps, and below them on a terminal how many have ended.
type Screen struct {
	width int // of the longest name

	mu  sync.Mutex
	w   io.Writer
	bar *progressbar.ProgressBar // nil without ShowBar
}

// New returns a screen for steps whose names have at most that many letters.
func New(w io.Writer, width int) *Screen { return &Screen{w: w, width: width} }

// ShowBar is for a terminal. It comes before the first line.
func (s *Screen) ShowBar(steps int) {
	s.bar = progressbar.NewOptions(steps, progressbar.OptionSetWriter(s.w), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(20), progressbar.OptionSetPredictTime(false),
		progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true))
	_ = s.bar.RenderBlank()
}

// Prefix is what stands before each line of a step.
func (s *Screen) Prefix(name string) string { return fmt.Sprintf("%-*s | ", s.width, name) }

// Write writes whole lines.
func (s *Screen) Write(p []byte) (int, error) {
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

// Say writes a line of ours about a step.
func (s *Screen) Say(name, what string) { _, _ = fmt.Fprintf(s, "%-*s * %s\n", s.width, name, what) }

// Ended says what became of a step, and counts it.
func (s *Screen) Ended(r report.Result) {
	what := string(r.State)
	if r.Tries > 0 {
		what += " after " + r.Took.Round(time.Millisecond).String()
	}
	if r.Why != "" {
		what += ": " + r.Why
	}
	s.Say(r.Name, what)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bar != nil {
		_ = s.bar.Add(1)
	}
}

// Close leaves the lines alone on the terminal.
func (s *Screen) Close() {
	if s.bar != nil {
		_ = s.bar.Finish()
	}
}
