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
	"github.com/seed841d8200/safeexec/examples/ci/report"
	"github.com/seed841d8200/safeexec/examples/ci/screen"
	"github.com/seed841d8200/safeexec/examples/ci/steps"
	"github.com/seed841d8200/safeexec/group"
)

// An outcome is a step and what became of it, which may be read once done is closed.
type outcome struct {
	*steps.Step
	done   chan struct{}
	result report.Result
}

func (o *outcome) end(s report.State, why string) { o.result.State, o.result.Why = s, why }

type runner struct {
	group    *group.Group
	dir, out string
	screen   *screen.Screen
}

// run runs all steps, and returns what became of each, in their order.
func (r *runner) run(ctx context.Context, list []*steps.Step) (results []report.Result) {
	byName := map[string]*outcome{}
	for _, s := range list {
		byName[s.Name] = &outcome{Step: s, done: make(chan struct{}), result: report.Result{Name: s.Name}}
	}
	var all sync.WaitGroup
	for _, o := range byName {
		all.Go(func() {
			defer close(o.done)
			for _, name := range o.Needs {
				need := byName[name]
				switch <-need.done; need.result.State {
				case report.Failed, report.Skipped:
					o.end(report.Skipped, "needs "+name)
				case report.Canceled:
					o.end(report.Canceled, "needs "+name)
				}
			}
			log := filepath.Join(r.out, o.Name+".log")
			if err := os.Remove(log); err != nil && !errors.Is(err, os.ErrNotExist) {
				o.end(report.Failed, err.Error())
			}
			if o.result.State == "" {
				r.step(ctx, o, log)
			}
			r.screen.Ended(o.result)
		})
	}
	all.Wait()
	for _, s := range list {
		results = append(results, byName[s.Name].result)
	}
	return results
}

// step tries one step until it passes or has no tries left.
func (r *runner) step(ctx context.Context, o *outcome, path string) {
	log, err := createLog(path)
	if err != nil {
		o.end(report.Failed, err.Error())
		return
	}
	defer func() { _ = log.Close() }()
	res := &o.result
	for {
		tried, err := r.try(o.Step, log)
		if tried.PID != 0 {
			res.Tries++
			res.Took += tried.Times.Total
			res.Output = tried.Stdout.String()
			if res.Begun.IsZero() {
				res.Begun = tried.Times.Started
			}
		}
		switch {
		case err == nil:
			o.end(report.Passed, "")
			return
		case errors.Is(err, safeexec.ErrCanceled):
			o.end(report.Canceled, err.Error())
			return
		case res.Tries > o.Retry || tried.PID == 0: // what cannot be started will not be later
			o.end(report.Failed, err.Error())
			return
		}
		r.screen.Say(o.Name, fmt.Sprintf("try %d failed: %v", res.Tries, err))
		select {
		case <-time.After(o.Pause):
		case <-ctx.Done(): // the next try is refused
		}
	}
}

// try runs the command of a step once.
func (r *runner) try(s *steps.Step, log io.Writer) (safeexec.Result, error) {
	lines := safeexec.Prefix(r.screen, r.screen.Prefix(s.Name))
	defer lines.Close() // a last line without an end
	return r.group.Go(r.command(s), safeexec.WithTimeout(s.Timeout),
		safeexec.WithTee(io.MultiWriter(log, lines), nil)).Wait()
}

func (r *runner) command(s *steps.Step) *exec.Cmd {
	cmd := exec.Command("sh", "-ec", s.Run)
	cmd.Dir = filepath.Join(r.dir, s.Dir)
	cmd.Env = append(os.Environ(), "CI=true")
	for name, value := range s.Env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}
