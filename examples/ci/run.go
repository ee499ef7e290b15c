package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
)

// A state is what became of a step.
type state string

const (
	passed   state = "passed"
	failed   state = "failed"
	skipped  state = "skipped"  // what it needs has not passed
	canceled state = "canceled" // by a signal
)

// A result is a step and what became of it. All but done may be read once done is closed.
type result struct {
	*step
	done   chan struct{}
	state  state
	why    string // it has not passed
	tries  int
	begun  time.Time
	took   time.Duration
	output string // of the last try: its beginning and its end
}

func (r *result) end(s state, why string) { r.state, r.why = s, why }

type runner struct {
	group    *group.Group
	dir, out string
	screen   *screen
}

// run runs all steps, and returns what became of each, in their order.
func (r *runner) run(ctx context.Context, steps []*step) (results []*result) {
	byName := map[string]*result{}
	for _, s := range steps {
		res := &result{step: s, done: make(chan struct{})}
		results, byName[s.Name] = append(results, res), res
		r.screen.width = max(r.screen.width, len(s.Name))
	}
	var all sync.WaitGroup
	for _, res := range results {
		all.Go(func() {
			defer close(res.done)
			for _, name := range res.Needs {
				need := byName[name]
				switch <-need.done; need.state {
				case failed, skipped:
					res.end(skipped, "needs "+name)
				case canceled:
					res.end(canceled, "needs "+name)
				}
			}
			log := filepath.Join(r.out, res.Name+".log")
			if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
				res.end(failed, err.Error())
			}
			if res.state == "" {
				r.step(ctx, res, log)
			}
			r.screen.ended(res)
		})
	}
	all.Wait()
	return results
}

// step tries one step until it passes or has no tries left.
func (r *runner) step(ctx context.Context, res *result, path string) {
	log, err := createLog(path)
	if err != nil {
		res.end(failed, err.Error())
		return
	}
	defer func() { _ = log.Close() }()
	for {
		tried, err := r.try(res.step, log)
		if tried.PID != 0 {
			res.tries++
			res.took += tried.Times.Total
			res.output = tried.Stdout.String()
			if res.begun.IsZero() {
				res.begun = tried.Times.Started
			}
		}
		switch {
		case err == nil:
			res.end(passed, "")
			return
		case errors.Is(err, safeexec.ErrCanceled):
			res.end(canceled, err.Error())
			return
		case res.tries > res.Retry || tried.PID == 0: // what cannot be started will not be later
			res.end(failed, err.Error())
			return
		}
		r.screen.say(res.Name, fmt.Sprintf("try %d failed: %v", res.tries, err))
		select {
		case <-time.After(res.Pause):
		case <-ctx.Done(): // the next try is refused
		}
	}
}

// try runs the command of a step once.
func (r *runner) try(s *step, log io.Writer) (safeexec.Result, error) {
	lines := safeexec.Prefix(r.screen, r.screen.prefix(s.Name))
	defer lines.Close() // a last line without an end
	return r.group.Go(r.command(s), safeexec.WithTimeout(s.Timeout),
		safeexec.WithTee(io.MultiWriter(log, lines), nil)).Wait()
}

func (r *runner) command(s *step) *exec.Cmd {
	cmd := exec.Command("sh", "-ec", s.Run)
	cmd.Dir = filepath.Join(r.dir, s.Dir)
	cmd.Env = append(os.Environ(), "CI=true")
	for name, value := range s.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// logLimit is how long a log gets, in bytes.
const logLimit = 64 << 20

// A logFile takes logLimit bytes, and counts what comes later.
type logFile struct {
	*os.File
	left, lost int
}

func createLog(path string) (*logFile, error) {
	f, err := os.Create(path)
	return &logFile{File: f, left: logLimit}, err
}

func (l *logFile) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left, l.lost = l.left-n, l.lost+len(p)-n
	if _, err := l.File.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (l *logFile) Close() error {
	if l.lost > 0 {
		_, _ = fmt.Fprintf(l.File, "\n[%d bytes more are not here]\n", l.lost)
	}
	return l.File.Close()
}
