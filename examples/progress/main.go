// Progress runs a shell command for each line of its standard input, some at a time, and shows how far it is: on a
// terminal by a line that changes, elsewhere by one that is added for each command that has ended.
//
//	progress [-limit 16] [-timeout 10m] <COMMANDS
//
// The output of a command comes when it has ended. The exit code is the number of commands that failed, at most 100.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/group"
)

func main() {
	limit := flag.Int("limit", 16, "how many commands run at a time")
	timeout := flag.Duration("timeout", 10*time.Minute, "`time` that a command may take")
	flag.Parse()
	ctx, stop := safeexec.NotifyContext(context.Background())
	g, err := group.New(ctx, group.Limit(*limit), group.Options(safeexec.WithTimeout(*timeout)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(100)
	}
	var jobs []*group.Job
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		jobs = append(jobs, g.Go(exec.Command("sh", "-c", lines.Text())))
	}
	var p progress = &plain{w: os.Stderr, jobs: len(jobs)}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		p = newBar(os.Stderr, len(jobs))
	}
	failed := follow(g, jobs, p, os.Stdout)
	err = g.Shutdown(context.WithoutCancel(ctx))
	stop()
	if err != nil || lines.Err() != nil {
		fmt.Fprintln(os.Stderr, err, lines.Err())
		os.Exit(100)
	}
	os.Exit(min(failed, 100))
}

// follow writes the output of each job as it ends, and returns how many have failed.
func follow(g *group.Group, jobs []*group.Job, p progress, out io.Writer) (failed int) {
	defer p.end()
	for job := range group.Results(jobs...) {
		res, err := job.Wait()
		if err != nil {
			failed++
		}
		p.hide()
		for _, text := range []string{res.Stdout.String(), res.Stderr.String()} {
			if text != "" {
				_, _ = fmt.Fprintln(out, text)
			}
		}
		p.ended(job, err, len(g.Running()), len(g.Waiting()))
	}
	return failed
}

// A progress shows how far the jobs are.
type progress interface {
	hide() // for what is written beside it
	ended(job *group.Job, err error, running, waiting int)
	end()
}

// plain is for files and pipes.
type plain struct {
	w       io.Writer
	jobs, n int
}

func (*plain) hide() {}
func (*plain) end()  {}

func (p *plain) ended(job *group.Job, err error, running, waiting int) {
	p.n++
	what := "done"
	if err != nil {
		what = err.Error()
	}
	_, _ = fmt.Fprintf(p.w, "%d of %d: %s: %s\n", p.n, p.jobs, job.Cmd().Args[2], what)
}

// bar is for terminals.
type bar struct{ *progressbar.ProgressBar }

func newBar(w io.Writer, jobs int) bar {
	return bar{progressbar.NewOptions(jobs, progressbar.OptionSetWriter(w), progressbar.OptionShowCount(),
		progressbar.OptionSetWidth(20), progressbar.OptionClearOnFinish(), progressbar.OptionUseANSICodes(true))}
}

func (b bar) hide() { _ = b.Clear() }
func (b bar) end()  { _ = b.Finish() }

func (b bar) ended(_ *group.Job, _ error, running, waiting int) {
	b.Describe(fmt.Sprintf("%d run, %d wait", running, waiting))
	_ = b.Add(1)
}
