package job

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// Start starts a command as a job, and waits until it is ready if [Ready] is given. The context is
// for the call alone. An error beside a job says that the job was started and is not ready; without
// a job nothing runs.
//
// The command has a session of its own, standard input from /dev/null or [Input], and its log for
// both outputs; it inherits no other descriptor but those that the environment declares. Of cmd,
// Path, Args, Env, Dir and a Credential are used; what a record cannot keep is a
// [*safeexec.ConfigError]. The record holds arguments and environment, which are what a restart
// needs, readable for this user alone.
//
// A job of a name that has ended is replaced. If one runs, the error is [ErrRunning].
func (s *Store) Start(ctx context.Context, cmd *exec.Cmd, opts ...Option) (*Job, error) {
	c := configure(opts)
	if c.name == "" {
		c.name = fmt.Sprintf("job-%d-%s", os.Getpid(), strconv.FormatInt(time.Now().UnixNano(), 36))
	}
	if err := c.check(); err != nil {
		return nil, wrap("start", c.name, err)
	}
	what, err := commandOf(cmd)
	if err != nil {
		return nil, wrap("start", c.name, err)
	}
	j := &Job{s, c.name}
	given := exec.Cmd{Dir: cmd.Dir, Env: cmd.Env}
	k, err := j.begin(ctx, &c, func(r *record) error {
		r.Command, r.Settings = what, c.set
		// What os/exec does with Env and Dir, it does once, and a restart gets the same.
		r.Command.Env = raw(given.Environ())
		return nil
	})
	if err != nil {
		return nil, wrap("start", c.name, err)
	}
	return j, wrap("start", c.name, readiness{&c, k}.await(ctx))
}

// begin starts a job under the lock of its record, and returns its keeper.
func (j *Job) begin(ctx context.Context, c *config, fill func(*record) error) (*keeper, error) {
	if j.store.ctx.Err() != nil {
		return nil, ErrClosed
	}
	lock, err := j.store.lockOf(ctx, j.name)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	old, err := read(j.dir())
	r := &record{Name: j.name}
	switch {
	case err == nil:
		st, err := j.statusOf(old)
		if err != nil {
			return nil, errors.Join(ErrRunning, err)
		}
		if st.State != Ended && st.State != Gone {
			return nil, ErrRunning
		}
		old.removeOutside()
		*r = *old
	case !errors.Is(err, ErrNoJob):
		return nil, err
	}
	if err := fill(r); err != nil {
		return nil, err
	}
	if err := c.portsFree(ctx); err != nil {
		return nil, err
	}
	j.forgetKeeper() // of the run before
	l := &launch{job: j, record: r, config: c, before: old, lock: lock}
	if err := l.run(ctx); err != nil {
		l.undo()
		return nil, err
	}
	return j.store.keep(l), nil
}
