// Scheduler runs a command for each line of a file, again and again, and never waits for one that is
// stuck.
//
//	scheduler [-every 1h] [-interval 2s] [-limit 16] [-timeout 10m] [-grace 5s] STATIONS COMMAND [ARG...]
//
// STATIONS names a station a line; it becomes the last argument of COMMAND. A round starts every hour,
// its commands two seconds apart and at most 16 at a time. A command that takes longer than ten
// minutes is ended with all its children, and what it was blocked in is printed. A station that is still at
// work, or waits, when the next round begins is skipped in that round. With -every 0 there is one round.
//
// SIGTERM and SIGINT end everything: no command starts any more, those that run get the grace period,
// and the exit code is 1 if something could not be ended. A second signal kills them. After one
// round the exit code is the number of stations that failed, at most 100; 2 is also that of a wrong usage.
//
// To make it yours, change command, which builds what is run for a station, and say, which tells what
// became of it.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
)

var (
	every    = flag.Duration("every", time.Hour, "`time` between the beginnings of two rounds; 0 for one round")
	interval = flag.Duration("interval", 2*time.Second, "`time` between two starts")
	limit    = flag.Int("limit", 16, "how many commands run at a time")
	timeout  = flag.Duration("timeout", 10*time.Minute, "`time` that a command may take")
	grace    = flag.Duration("grace", safeexec.DefaultGracePeriod, "`time` between SIGTERM and SIGKILL")
)

func main() {
	flag.Parse()
	if flag.NArg() < 2 || *every < 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()

	// The group's own context is not canceled: the first signal is to be answered by Shutdown. The second kills.
	g, err := group.New(context.WithoutCancel(ctx),
		group.Limit(*limit),
		group.StartInterval(*interval),
		group.Options(safeexec.WithTimeout(*timeout), safeexec.WithGracePeriod(*grace)))
	if err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "scheduler:", err)
		os.Exit(2) //nolint:gocritic // it was called
	}
	failed := serve(ctx, g)
	if err := g.Shutdown(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "scheduler:", err)
		failed = max(failed, 1)
	}
	if ctx.Err() != nil && failed == 0 {
		fmt.Println("ended by a signal")
	}
	os.Exit(min(failed, 100))
}

// serve begins rounds until ctx is done, and returns how many stations failed if there is but one.
func serve(ctx context.Context, g *group.Group) (failed int) {
	if *every == 0 {
		jobs := round(g)
		told := make(chan int, 1)
		go func() { told <- tell(jobs) }()
		select {
		case failed = <-told:
		case <-ctx.Done():
			if shutdown(g) { // then every job has an end, and is told of
				failed = <-told
			}
		}
		return failed
	}
	var rounds sync.WaitGroup
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for {
		jobs := round(g)
		rounds.Go(func() { tell(jobs) })
		select {
		case <-tick.C:
		case <-ctx.Done():
			if shutdown(g) {
				rounds.Wait()
			}
			return 0
		}
	}
}

// shutdown reports whether everything has ended.
func shutdown(g *group.Group) bool {
	fmt.Printf("ending %d commands, within %v\n", len(g.Running()), g.StopBound())
	return g.Shutdown(context.Background()) == nil
}

// round submits a command for each station.
func round(g *group.Group) (jobs []*group.Job) {
	names, err := stations(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, "scheduler:", err) // perhaps there is a list in the next round
	}
	for _, name := range names {
		jobs = append(jobs, g.GoKey(name, command(name)))
	}
	return jobs
}

func command(station string) *exec.Cmd {
	args := slices.Concat(flag.Args()[2:], []string{station})
	return exec.Command(flag.Arg(1), args...)
}

// tell says what became of each job, and counts those that failed.
func tell(jobs []*group.Job) (failed int) {
	for job := range group.Results(jobs...) {
		if res, err := job.Wait(); !say(job.Key(), res, err) {
			failed++
		}
	}
	return failed
}

// say tells what became of a station's command, and reports whether it is as it should be.
func say(station string, res safeexec.Result, err error) bool {
	switch {
	case err == nil:
		fmt.Printf("%s: done in %v: %s\n", station, res.Times.Total.Round(time.Millisecond), res.Stdout)
	case errors.Is(err, group.ErrBusy):
		fmt.Printf("%s: skipped, the last round is still at it\n", station)
	case errors.Is(err, group.ErrNotStarted):
		fmt.Printf("%s: not started: %v\n", station, err)
	case errors.Is(err, safeexec.ErrTimeout) && res.Report != nil:
		fmt.Printf("%s: stuck: %s\n", station, res.Report.Verdict)
	default:
		fmt.Printf("%s: failed with %d: %v\n", station, res.ShellCode(), err)
	}
	return err == nil
}

// stations reads the names, one a line; empty lines and those that begin with # do not count.
func stations(file string) (names []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name := strings.TrimSpace(lines.Text()); name != "" && name[0] != '#' {
			names = append(names, name)
		}
	}
	return names, lines.Err()
}
