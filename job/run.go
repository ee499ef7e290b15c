package job

import (
	"context"
	"os/exec"
	"syscall"

	"github.com/seed841d8200/safeexec"
)

// nonblock makes an open of a FIFO without a reader fail.
const nonblock = syscall.O_NONBLOCK

// A RunResult is what came of a command within the time of [Yield].
type RunResult struct {
	Output  []byte // of both outputs, the last MiB at most
	Dropped int64  // bytes before that
	Status  Status
	// Job goes on if it is not nil. The job and its record are gone otherwise.
	Job *Job
}

// Run starts a command as [Store.Start] does and waits for its end, no longer than [Yield] says. If
// it ends in time, this is as safeexec.Run: the result has its output, the error of one that did
// not end well is an [*exec.ExitError], and the record is removed. If not, the result has what came
// so far, and Job, which goes on; the error is nil. A context that is done before ends the command.
func (s *Store) Run(ctx context.Context, cmd *exec.Cmd, opts ...Option) (RunResult, error) {
	c := configure(opts)
	if !c.yieldSet || c.yield < 0 {
		return RunResult{}, wrap("run", c.name, &safeexec.ConfigError{Name: "Yield", Reason: "is not given or negative"})
	}
	if len(c.ready) > 0 {
		err := &safeexec.ConfigError{Name: "Ready", Reason: "is for Start: Run waits for the end"}
		return RunResult{}, wrap("run", c.name, err)
	}
	j, err := s.Start(ctx, cmd, opts...)
	if err != nil {
		return RunResult{Job: j}, err
	}
	bound, cancel := context.WithTimeout(ctx, c.yield)
	defer cancel()
	st, err := j.Wait(bound)
	waited := bound.Err()
	late := context.WithoutCancel(ctx)
	if ctx.Err() != nil && st.State != Ended {
		_, e := j.Stop(late)
		if st, _ = j.Status(); e != nil {
			return j.result(st, true), e
		}
		r := j.result(st, false)
		_, _ = j.remove(late)
		return r, wrap("run", j.name, context.Cause(ctx))
	}
	if waited != nil && st.State != Ended {
		st, err = j.Status()
		return j.result(st, true), err
	}
	r := j.result(st, false)
	if _, e := j.remove(late); e != nil {
		r.Job = j
	}
	return r, err
}

func (j *Job) result(st Status, goesOn bool) RunResult { //nolint:revive // a fact, not a mode
	r := RunResult{Status: st}
	if goesOn {
		r.Job = j
	}
	rec, err := read(j.dir())
	if err != nil {
		return r
	}
	in, err := openReader(j.LogPath(), rec.LogFrom)
	if err != nil {
		return r
	}
	defer in.file.Close()
	from, size, err := dataFrom(in.file, rec.LogFrom)
	if err != nil || size <= from {
		return r
	}
	from = max(from, size-maxTail)
	r.Dropped = from - rec.LogFrom
	r.Output = make([]byte, size-from)
	n, _ := in.file.ReadAt(r.Output, from)
	r.Output = r.Output[:n]
	return r
}
