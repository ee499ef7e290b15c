package job

import (
	"cmp"
	"os/exec"
	"path/filepath"
	"time"
	"unicode/utf8"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// An Option changes how a job is started. The last one counts.
type Option interface{ apply(*config) }

type option func(*config)

func (o option) apply(c *config) { o(c) }

type config struct {
	name     string
	set      settings
	bounded  bool // Timeout or Endless was given
	within   time.Duration
	ready    []Condition
	unready  bool // StopUnready
	yield    time.Duration
	yieldSet bool
}

// Name names the job; no other of the store may run under that name. The default is a name of its
// own for each start.
func Name(name string) Option { return option(func(c *config) { c.name = name }) }

// Timeout ends the job that long after its start, suspension of the machine included. A start takes
// this option or [Endless]. While no program has the store open the timeout is not enforced;
// [Store.Adopt] makes up for it.
func Timeout(d time.Duration) Option {
	return option(func(c *config) { c.set.Timeout, c.bounded = d, true })
}

// Endless lets the job run until it ends or is stopped.
func Endless() Option { return option(func(c *config) { c.set.Timeout, c.bounded = 0, true }) }

// Grace is how long the job has to end by itself after SIGTERM, before SIGKILL. The default is 10
// s.
func Grace(d time.Duration) Option { return option(func(c *config) { c.set.Grace = d }) }

// Log bounds the log. The job writes to the file itself, so that it never waits for anybody and
// loses nothing when this program ends. While a program keeps the job, no more than MaxSize times
// Keep bytes stay on the disk, and what the job writes within 50 ms: the oldest MaxSize bytes are
// given back to the file system, in place. The size that ls shows goes on growing, and the file
// begins with a hole, which du, [Job.Tail] and [Job.Follow] know. Nothing but the oldest is lost.
// While no program keeps the job, the log grows. The default is 64 MiB times 3.
func Log(opts ...LogOption) Option {
	return option(func(c *config) {
		for _, o := range opts {
			o(&c.set)
		}
	})
}

// A LogOption is an option of [Log].
type LogOption func(*settings)

// MaxSize is in which steps the oldest of the log is given up, in bytes: at least 64 KiB. 0 is no
// bound at all.
func MaxSize(n int64) LogOption { return func(s *settings) { s.LogMax = n } }

// Keep is how many times MaxSize is kept, at least 2.
func Keep(n int) LogOption { return func(s *settings) { s.LogKeep = int64(n) } }

// Umask is the job's umask. The start takes a thread for it, which ends.
func Umask(mask int) Option { return option(func(c *config) { c.set.Umask = &mask }) }

// OOMScoreAdjust is what is added to the job's badness when memory is short, from -1000 to 1000
// (proc_pid_oom_score_adj(5)).
func OOMScoreAdjust(n int) Option { return option(func(c *config) { c.set.OOMScore = &n }) }

// Limit sets the soft and the hard limit of a resource, before the first instruction.
func Limit(r safeexec.Resource, n uint64) Option {
	return option(func(c *config) {
		if c.set.Limits == nil {
			c.set.Limits = make(map[int]uint64)
		}
		c.set.Limits[int(r)] = n
	})
}

// Input gives the job a FIFO for standard input, which [Job.Input] writes to. The job never reads
// end of file from it. The default is /dev/null.
func Input() Option { return option(func(c *config) { c.set.Input = true }) }

// PIDFile writes the number of the job's first process to a file, for other tools, and removes it
// when the job has ended. This package never reads it: the number may belong to another process by then.
func PIDFile(path string) Option { return option(func(c *config) { c.set.PIDFile = path }) }

// KeepStatus keeps the exit status of the first process even if this program ends before it: [Status] has it in any
// program, whether or not a program kept the job then. A small process starts the command instead of this program, and
// holds its status until it is recorded. That process is the program's own file, executed once more, see [Init], in a
// session of its own, without descriptors of the program; it ignores the signals that ask it to end, and ends with the
// first process. If it is killed, the job goes on, and the status is unknown.
//
// The job then is no child of this program: [Job.Wait] and [Store.Run] return no [*exec.ExitError], and it inherits no
// descriptor, not even one that the environment declares. The start takes twice as long as the program takes to begin.
func KeepStatus() Option { return option(func(c *config) { c.set.KeepStatus = true }) }

// Ready makes the start wait until the first of the conditions comes true, no longer than that.
func Ready(within time.Duration, first ...Condition) Option {
	return option(func(c *config) { c.within, c.ready = within, first })
}

// StopUnready stops a job that is not ready in time. Without it the job goes on, and the start
// returns it beside the error.
func StopUnready() Option { return option(func(c *config) { c.unready = true }) }

// Watchdog ends a job that does not send WATCHDOG=1 at least that often (sd_notify(3)), once the
// wait of [Ready] is over. It takes [Notify].
func Watchdog(d time.Duration) Option { return option(func(c *config) { c.set.Watchdog = d }) }

// Yield is how long [Store.Run] waits for the end.
func Yield(d time.Duration) Option {
	return option(func(c *config) { c.yield, c.yieldSet = d, true })
}

func configure(opts []Option) config {
	c := config{set: settings{Grace: 10 * time.Second, Kill: 10 * time.Second, LogMax: 64 << 20, LogKeep: 3}}
	for _, o := range opts {
		if o != nil {
			o.apply(&c)
		}
	}
	for _, cond := range c.ready {
		c.set.Notify = c.set.Notify || cond.kind == kindNotify
	}
	if c.set.PIDFile != "" {
		if abs, err := filepath.Abs(c.set.PIDFile); err == nil {
			c.set.PIDFile = abs
		}
	}
	return c
}

func (c *config) check() error {
	set := &c.set
	bad := func(name, reason string) error { return &safeexec.ConfigError{Name: name, Reason: reason} }
	if reason := checkName(c.name); reason != "" {
		return bad("Name", reason)
	}
	switch {
	case !c.bounded:
		return safeexec.ErrNoTimeout
	case set.Timeout < 0:
		return bad("Timeout", "is negative")
	case set.Grace < 0:
		return bad("Grace", "is negative")
	case set.LogMax != 0 && set.LogMax < logGrain:
		return bad("MaxSize", "is less than 64 KiB and not 0")
	case set.LogMax != 0 && set.LogKeep < 2:
		return bad("Keep", "is less than 2")
	case set.LogMax > 0 && set.LogKeep > 1<<62/set.LogMax:
		return bad("Keep", "is too large")
	case set.Umask != nil && (*set.Umask < 0 || *set.Umask > 0o777):
		return bad("Umask", "is out of range")
	case set.OOMScore != nil && (*set.OOMScore < -1000 || *set.OOMScore > 1000):
		return bad("OOMScoreAdjust", "is out of range")
	case !utf8.ValidString(set.PIDFile):
		return bad("PIDFile", "is not UTF-8")
	case set.KeepStatus && !canHold.Load():
		return bad("KeepStatus", "needs Init to be called first in main")
	case set.Watchdog < 0:
		return bad("Watchdog", "is negative")
	case set.Watchdog > 0 && !set.Notify:
		return bad("Watchdog", "takes Ready with Notify")
	case len(c.ready) > 0 && c.within <= 0:
		return bad("Ready", "has no time")
	case c.within > 0 && len(c.ready) == 0:
		return bad("Ready", "has no condition")
	}
	for r := range set.Limits {
		if _, ok := resources[safeexec.Resource(r)]; !ok {
			return bad("Limit", "is of no known resource")
		}
	}
	for _, cond := range c.ready {
		if cond.bad != "" {
			return bad("Ready", cond.bad)
		}
	}
	return nil
}

// commandOf takes what a record keeps of a command, and refuses what it cannot keep.
func commandOf(cmd *exec.Cmd) (command, error) {
	bad := func(name, reason string) (command, error) {
		return command{}, &safeexec.ConfigError{Name: name, Reason: reason}
	}
	if cmd == nil {
		return bad("cmd", "is nil")
	}
	user, plain := sys.UserOf(cmd.SysProcAttr)
	switch {
	case cmd.Process != nil:
		return command{}, safeexec.ErrStarted
	case cmd.Err != nil:
		return command{}, cmd.Err
	case cmd.Path == "":
		return bad("Path", "is empty")
	case cmd.Stdin != nil || cmd.Stdout != nil || cmd.Stderr != nil:
		return bad("Stdin, Stdout, Stderr", "are set: a job has a log, and Input")
	case len(cmd.ExtraFiles) > 0:
		return bad("ExtraFiles", "are set: a job has no files of the program that starts it")
	case cmd.Cancel != nil:
		return bad("Cancel", "is set: a job outlives the context that it was made with; use exec.Command")
	case !plain:
		return bad("SysProcAttr", "has more than a Credential")
	}
	dir, err := filepath.Abs(cmp.Or(cmd.Dir, "."))
	return command{Path: []byte(cmd.Path), Args: raw(cmd.Args), Dir: []byte(dir), User: user}, err
}
