package group

import (
	"cmp"
	"container/list"
	"errors"
	"iter"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec"
)

// A Job is a command that was submitted. It waits, runs, and has ended, or only the last of these.
type Job struct {
	g      *Group
	key    string
	cmd    *exec.Cmd
	queued time.Time
	done   chan struct{} // closed by end

	// Guarded by the group's lock.
	opts     []safeexec.Option // until the end
	place    *list.Element     // in the group's waiting or running; else nil
	behind   *Job              // the next of the same lane, while it waits
	started  time.Time
	process  process // while it runs
	watchers []chan<- *Job

	// Written by end, and read once done is closed.
	rank   uint64           // in the order of completion
	result *safeexec.Result // large, and of no use to a job that waits
	err    error
}

// Wait waits for the end of the job and returns what [safeexec.Run] returns. To wait no longer than
// something else, select on [Job.Done].
func (j *Job) Wait() (safeexec.Result, error) {
	<-j.done
	return *j.result, j.err
}

// Done returns a channel that is closed at the end of the job, when Wait will not block.
func (j *Job) Done() <-chan struct{} { return j.done }

// Key returns what GoKey got, or the empty string.
func (j *Job) Key() string { return j.key }

// Cmd returns the command, which is not to be touched before the end of the job.
func (j *Job) Cmd() *exec.Cmd { return j.cmd }

// Queued returns when the job was submitted.
func (j *Job) Queued() time.Time { return j.queued }

// Started returns when its start began, and whether it did.
func (j *Job) Started() (time.Time, bool) {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	return j.started, !j.started.IsZero()
}

// PID returns the leader's process ID while it runs, else 0.
func (j *Job) PID() int {
	if p := j.running(); p != nil {
		return p.PID()
	}
	return 0
}

// Report says why the job does not go on, while it runs: see [safeexec.Process.Report]. The error
// matches [ErrNotStarted] while it waits or is being started, and [os.ErrProcessDone] once it has ended.
func (j *Job) Report() (safeexec.Report, error) {
	if p := j.running(); p != nil {
		return p.Report()
	}
	select {
	case <-j.done:
		return safeexec.Report{}, os.ErrProcessDone
	default:
		return safeexec.Report{}, ErrNotStarted
	}
}

func (j *Job) running() process {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	return j.process
}

// unstarted returns the result of a job of which nothing ran.
func (j *Job) unstarted(err error) safeexec.Result {
	var refused *safeexec.Error
	if errors.As(err, &refused) && refused.Result != nil {
		return *refused.Result
	}
	res := safeexec.Result{ExitCode: -1, Cause: safeexec.CauseStartFailed}
	switch {
	case errors.Is(err, safeexec.ErrCanceled):
		res.Cause = safeexec.CauseCanceled
	case errors.Is(err, safeexec.ErrTimeout):
		res.Cause = safeexec.CauseTimeout
	}
	res.Times.Started, res.Times.Total = j.queued, time.Since(j.queued)
	return res
}

// errSpent makes a command fail to start before it does anything.
var errSpent = errors.New("group: not started")

// spend does to a command what a Start that fails does: it closes the pipes that StdinPipe, StdoutPipe
// and StderrPipe have opened, or a caller that reads them would wait for ever. Only os/exec can reach them.
func spend(cmd *exec.Cmd) {
	if cmd == nil {
		return
	}
	err := cmd.Err
	cmd.Err = errSpent
	_ = cmd.Start()
	cmd.Err = err
}

// Running returns the jobs that run, in the order of their starts.
func (g *Group) Running() []*Job { return g.list(&g.running) }

// Waiting returns the jobs that wait for their start, the one that has waited longest first.
func (g *Group) Waiting() []*Job { return g.list(&g.waiting) }

func (g *Group) list(l *list.List) []*Job {
	g.mu.Lock()
	defer g.mu.Unlock()
	jobs := make([]*Job, 0, l.Len())
	for e := l.Front(); e != nil; e = e.Next() {
		jobs = append(jobs, e.Value.(*Job))
	}
	return jobs
}

// Results yields each of the jobs once it has ended, in the order of completion, and ends after the
// last. Those of several groups are in order group by group. A job given twice is yielded once, and a nil
// Job is ignored. The loop may be left at any time.
func Results(jobs ...*Job) iter.Seq[*Job] {
	return func(yield func(*Job) bool) {
		seen := make(map[*Job]bool, len(jobs))
		ended := make(chan *Job, len(jobs))
		for _, j := range jobs {
			if j != nil && !seen[j] {
				seen[j] = true
				j.watch(ended)
			}
		}
		// Those that have ended by now came in the order of jobs, perhaps with later ones between them.
		early := make([]*Job, len(ended))
		for i := range early {
			early[i] = <-ended
		}
		slices.SortStableFunc(early, func(a, b *Job) int { return cmp.Compare(a.rank, b.rank) })
		for _, j := range early {
			if !yield(j) {
				return
			}
		}
		for range len(seen) - len(early) {
			if !yield(<-ended) {
				return
			}
		}
	}
}

// watch has the job sent to ended at its end, at once if that has come.
func (j *Job) watch(ended chan<- *Job) {
	j.g.mu.Lock()
	defer j.g.mu.Unlock()
	select {
	case <-j.done:
		ended <- j
	default:
		j.watchers = append(j.watchers, ended)
	}
}
