// Package shell runs the commands of a model: each is a job, of which the model sees the head and the tail.
package shell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/job"
)

const (
	// linger is how long a command whose shell has ended may take to end altogether. Then the model is told
	// of the processes that it has left.
	linger = 500 * time.Millisecond
	// look is how often a command is looked at.
	look = 100 * time.Millisecond
	// inputWithin is how long a job may take to read what the model writes.
	inputWithin = 5 * time.Second
	// grace is the time between SIGTERM and SIGKILL.
	grace = 2 * time.Second
	// logStep is a third of what an output may take on the disk: then the oldest is given up.
	logStep = 16 << 20
	// fileSize is how long a file of a command may get, its output included, which has no other bound while
	// no program like this one runs.
	fileSize = 4 << 30
	// kept is how many jobs that have ended there are before they are removed with their output.
	kept = 200
)

// A Shell runs the commands of the model. The client may call several tools at once.
type Shell struct {
	Store   *job.Store
	Work    string                       // the directory that commands run in
	Yield   time.Duration                // until a command goes on as a job
	Timeout time.Duration                // that a command of Run may take, as a job too
	Wrap    func(argv []string) []string // puts a command into a sandbox
}

// A Reply is what a tool returns.
type Reply struct {
	Message string `json:"message"`
	Job     string `json:"job,omitempty"`  // that goes on
	File    string `json:"file,omitempty"` // which holds the whole output
	Output  string `json:"output,omitempty"`
	Failed  bool   `json:"failed,omitempty"`
}

// Text is what the model reads.
func (r Reply) Text() string {
	var b strings.Builder
	b.WriteString(r.Message)
	if r.Job != "" {
		fmt.Fprintf(&b, " It goes on as job %s.", r.Job)
	}
	if r.File != "" {
		fmt.Fprintf(&b, " All of the output is in %s.", r.File)
	}
	if r.Output != "" {
		b.WriteString("\n\n" + r.Output)
	}
	return b.String()
}

// environment is that of the commands. Programs that ask on the terminal find none. These variables
// keep those quiet that would open a window or wait elsewhere.
func environment() []string {
	return append(os.Environ(),
		"TERM=dumb", "PAGER=cat", "GIT_PAGER=cat", "NO_COLOR=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=", "SSH_ASKPASS=", "SSH_ASKPASS_REQUIRE=never",
		"DEBIAN_FRONTEND=noninteractive")
}

func (s *Shell) command(line string) *exec.Cmd {
	argv := s.Wrap([]string{"bash", "-c", line})
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = s.Work
	cmd.Env = environment()
	return cmd
}

func (s *Shell) start(ctx context.Context, line string, opts ...job.Option) (*job.Job, error) {
	if jobs, err := s.Store.List(); err == nil && len(jobs) > kept {
		if _, err := s.Store.Clean(ctx); err != nil {
			return nil, err
		}
	}
	j, err := s.Store.Start(ctx, s.command(line), append(opts, job.Grace(grace), job.Log(job.MaxSize(logStep)),
		job.Limit(safeexec.LimitFileSize, fileSize))...)
	if err != nil {
		return nil, errors.New(safeexec.Result{Program: "bash"}.Describe(err))
	}
	return j, nil
}

// Run runs a command, and waits for its end or until it is the model's turn.
func (s *Shell) Run(ctx context.Context, line string) (Reply, error) {
	j, err := s.start(ctx, line, job.Timeout(s.Timeout))
	if err != nil {
		return Reply{}, err
	}
	st, err := s.wait(ctx, j)
	if ctx.Err() != nil { // the client has canceled the call, or is gone
		_, err := j.Stop(context.WithoutCancel(ctx))
		return Reply{}, errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		return Reply{}, err
	}
	return s.reply(ctx, j, st)
}

// wait returns when the command has ended, when its shell has and only processes in the background are
// left, or when it has had its time.
func (s *Shell) wait(ctx context.Context, j *job.Job) (job.Status, error) {
	bound, cancel := context.WithTimeout(ctx, s.Yield)
	defer cancel()
	var last <-chan time.Time // set once the shell has ended
	for {
		step, cancel := context.WithTimeout(bound, look)
		_, _ = j.Wait(step)
		cancel()
		st, err := status(ctx, j)
		if err != nil || st.State != job.Running {
			return st, err
		}
		if !st.First && last == nil {
			last = time.After(linger)
		}
		select {
		case <-bound.Done():
			return st, nil
		case <-last:
			return st, nil
		default:
		}
	}
}

// status returns how the job is. Once it has ended, it waits until that has been written down, with the
// exit status.
func status(ctx context.Context, j *job.Job) (job.Status, error) {
	st, err := j.Status()
	if err != nil || st.State == job.Running || st.Exit != nil {
		return st, err
	}
	st, err = j.Wait(ctx)
	if ctx.Err() != nil {
		return st, err
	}
	return st, nil // how it ended is in the status
}

// reply tells how the job is.
func (s *Shell) reply(ctx context.Context, j *job.Job, st job.Status) (Reply, error) {
	out, err := excerpt(j.LogPath())
	r := Reply{Output: out, File: j.LogPath()}
	switch {
	case st.State != job.Running:
		r.Message = describe(st)
		r.Failed = st.Exit == nil || st.Exit.Code != 0 || st.Reason != job.ByItself
	case !st.First && st.Exit != nil:
		r.Job = j.Name()
		r.Message = fmt.Sprintf("The shell has ended: %s. What it has left in the background runs.", st.Exit)
	case !st.First:
		r.Job = j.Name()
		r.Message = "The shell has ended. What it has left in the background runs."
	default:
		r.Job = j.Name()
		r.Message = fmt.Sprintf("bash has run for %v and has not ended.", time.Since(st.Started).Round(time.Second))
		if report, err := j.Report(ctx); err == nil && report.Verdict != "" {
			r.Message += " What it waits for: " + report.Verdict + "."
		}
	}
	return r, err
}

// describe is how an ended job is told of: as the result of a run is.
func describe(st job.Status) string {
	if st.Exit == nil && st.Reason == job.ByItself {
		return "bash has ended; how is not known."
	}
	res := safeexec.Result{Program: "bash", PID: st.PID, Cause: safeexec.CauseExited, ExitCode: -1}
	res.Times.Total = st.Ended.Sub(st.Started)
	if st.Exit != nil {
		res.ExitCode, res.Signal = st.Exit.Code, st.Exit.Signal
	}
	switch st.Reason {
	case job.ByItself:
	case job.ByTimeout:
		res.Cause = safeexec.CauseTimeout
	default:
		res.Cause = safeexec.CauseStopped
	}
	return res.Describe(nil)
}

// Background starts a command that has no timeout.
func (s *Shell) Background(ctx context.Context, line string, input bool) (Reply, error) { //nolint:revive // the model's
	opts := []job.Option{job.Endless()}
	if input {
		opts = append(opts, job.Input())
	}
	j, err := s.start(ctx, line, opts...)
	if err != nil {
		return Reply{}, err
	}
	return Reply{Message: "bash was started.", Job: j.Name(), File: j.LogPath()}, nil
}

// Output says how a job is and returns its output.
func (s *Shell) Output(ctx context.Context, name string) (Reply, error) {
	j, err := s.Store.Find(name)
	if err != nil {
		return Reply{}, err
	}
	st, err := status(ctx, j)
	if err != nil {
		return Reply{}, err
	}
	return s.reply(ctx, j, st)
}

// Input writes to the standard input of a job that was started with input.
func (s *Shell) Input(ctx context.Context, name, text string) (Reply, error) {
	j, err := s.Store.Find(name)
	if err != nil {
		return Reply{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, inputWithin)
	defer cancel()
	n, err := j.Input(ctx, []byte(text))
	if err != nil {
		return Reply{}, fmt.Errorf("%d of %d bytes were written: %w", n, len(text), err)
	}
	return Reply{Message: fmt.Sprintf("%d bytes were written.", n), Job: name}, nil
}

// Kill ends a job with all of its processes.
func (s *Shell) Kill(ctx context.Context, name string) (Reply, error) {
	j, err := s.Store.Find(name)
	if err != nil {
		return Reply{}, err
	}
	did, err := j.Stop(ctx)
	if err != nil {
		return Reply{}, err
	}
	said := fmt.Sprintf("Job %s is gone: %d processes were ended.", name, len(did.Killed))
	return Reply{Message: said, File: j.LogPath()}, nil
}

// List lists the jobs, those that have ended too.
func (s *Shell) List() (Reply, error) {
	jobs, err := s.Store.List()
	if err != nil {
		return Reply{}, err
	}
	var lines []string
	for _, j := range jobs {
		st, err := j.Status()
		if err != nil {
			lines = append(lines, j.Name()+": "+err.Error())
			continue
		}
		lines = append(lines, st.String())
	}
	return Reply{Message: fmt.Sprintf("%d jobs.", len(jobs)), Output: strings.Join(lines, "\n")}, nil
}
