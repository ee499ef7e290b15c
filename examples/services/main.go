// Services holds the smallest version of four services that run commands, each a function to copy: the shell of a
// coding agent, the steps of a CI job, a schedule, and a supervisor. For a log, spans and metrics give any of them
// the options of examples/logs.
//
//	services shell LINE           runs a command line, and says what became of it
//	services ci LINE...           runs steps one after the other, until one fails
//	services schedule LINE...     runs each command every minute, unless its last one is still at it
//	services supervise LINE...    keeps commands running
//
// SIGTERM and SIGINT end what runs, and the program. What a larger one of each needs is in examples/agenttool, ci,
// scheduler and supervisor.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
)

func main() {
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	var err error
	switch args := append(slices.Clone(os.Args[1:]), "", ""); args[0] {
	case "shell":
		fmt.Println(shell(ctx, args[1]))
	case "ci":
		err = ci(ctx, os.Stdout, os.Args[2:])
	case "schedule":
		tick := time.NewTicker(time.Minute)
		defer tick.Stop()
		err = schedule(ctx, os.Stdout, tick.C, os.Args[2:])
	case "supervise":
		supervise(ctx, os.Stdout, time.Second, os.Args[2:])
	default:
		err = errors.New("usage: services shell|ci|schedule|supervise LINE")
	}
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // nothing runs
	}
}

// year is the timeout of a service, which its context ends.
const year = 365 * 24 * time.Hour

func sh(line string) *exec.Cmd { return safeexec.Command("sh", "-c", line) }

// shell returns what a model is to read of a command.
func shell(ctx context.Context, line string) string {
	res, err := safeexec.Run(ctx, sh(line), safeexec.WithTimeout(10*time.Minute),
		safeexec.WithMergedOutput(), safeexec.WithOutputLimit(32<<10))
	text := res.Describe(err) + "\n" + res.Stdout.String()
	if res.Report != nil {
		text += "\nIt was stuck: " + res.Report.Verdict
	}
	return text
}

// ci writes the output of each step as it comes, behind its number.
func ci(ctx context.Context, w io.Writer, steps []string) error {
	for i, step := range steps {
		prefix := fmt.Sprintf("%d | ", i+1)
		res, err := safeexec.Run(ctx, sh(step), safeexec.WithTimeout(time.Hour), safeexec.WithIdleTimeout(10*time.Minute),
			safeexec.WithTee(safeexec.Prefix(w, prefix), safeexec.Prefix(w, prefix)))
		_, _ = fmt.Fprintln(w, res.Describe(err))
		if err != nil {
			return fmt.Errorf("step %d failed: %w", i+1, err)
		}
	}
	return nil
}

// schedule runs a round of the commands at each tick, at most four at a time.
func schedule(ctx context.Context, w io.Writer, tick <-chan time.Time, lines []string) error {
	g, err := group.New(ctx, group.Limit(4), group.Options(safeexec.WithTimeout(10*time.Minute)))
	if err != nil {
		return err
	}
	var told sync.WaitGroup
	for ctx.Err() == nil {
		var round []*group.Job
		for _, line := range lines {
			round = append(round, g.GoKey(line, sh(line)))
		}
		told.Go(func() {
			for job := range group.Results(round...) {
				res, err := job.Wait()
				_, _ = fmt.Fprintln(safeexec.Prefix(w, job.Key()+": "), res.Describe(err))
			}
		})
		select {
		case <-ctx.Done():
		case <-tick:
		}
	}
	err = g.Shutdown(context.WithoutCancel(ctx))
	told.Wait()
	return err
}

// supervise starts each command again when it has ended, later each time up to a minute, until ctx is done.
func supervise(ctx context.Context, w io.Writer, backoff time.Duration, lines []string) {
	var all sync.WaitGroup
	for _, line := range lines {
		all.Go(func() {
			for pause := backoff; ctx.Err() == nil; pause = min(2*pause, time.Minute) {
				prefix := line + " | "
				res, err := safeexec.Run(ctx, sh(line), safeexec.WithTimeout(year),
					safeexec.WithTee(safeexec.Prefix(w, prefix), safeexec.Prefix(w, prefix)))
				_, _ = fmt.Fprintln(safeexec.Prefix(w, prefix), res.Describe(err))
				if res.Times.Total > time.Minute {
					pause = backoff
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
	all.Wait()
}
