package group

import (
	"context"
	"math"
	"runtime"
	"time"

	"github.com/seed841d8200/safeexec"
)

// An Option changes one default of a group. The last one wins, except that those of [Options] add up. A
// nil Option is ignored.
type Option func(*config)

// A KeyPolicy says what becomes of a job whose key has another that runs or waits.
type KeyPolicy int

// The policies.
const (
	// KeyRefuse refuses it with [ErrBusy].
	KeyRefuse KeyPolicy = iota
	// KeyJoin makes GoKey return the job that is there. The second command is never started.
	KeyJoin
	// KeyQueue has it wait: the jobs of a key run one after the other.
	KeyQueue
)

// config is what the options add up to.
type config struct {
	limit        int
	queueLimit   int
	interval     time.Duration
	queueTimeout time.Duration // in force if queueTimeoutSet
	sameKey      KeyPolicy
	options      []safeexec.Option

	queueTimeoutSet, stopOnError bool
}

// Limit sets how many jobs may run at a time. It must be positive; without it, it is the number of
// processors that Go uses, [runtime.GOMAXPROCS].
func Limit(n int) Option { return func(c *config) { c.limit = n } }

// StartInterval sets how much time there is at least between the starts of two jobs. With zero, the
// default, there is none.
func StartInterval(d time.Duration) Option { return func(c *config) { c.interval = d } }

// QueueLimit sets how many jobs may wait; one more is refused with [ErrQueueFull]. With zero a job is
// only taken if it starts at once. Without it there is no limit but memory.
func QueueLimit(n int) Option { return func(c *config) { c.queueLimit = n } }

// QueueTimeout sets how long a job may wait for its start; then it ends with [ErrQueueTimeout]. It must
// be positive. Without it a job waits until its turn comes or the group ends.
func QueueTimeout(d time.Duration) Option {
	return func(c *config) { c.queueTimeout, c.queueTimeoutSet = d, true }
}

// SameKey sets what becomes of a second job with a key, [KeyRefuse] by default.
func SameKey(policy KeyPolicy) Option { return func(c *config) { c.sameKey = policy } }

// StopOnError ends the group when a run fails, as the cancellation of its context does: jobs that wait
// are not started, those that run are ended, and their errors match [ErrJobFailed]. A job that was
// refused, or has waited too long, is no failure.
func StopOnError() Option { return func(c *config) { c.stopOnError = true } }

// Options sets options of every run. Those that [Group.Go] gets follow them.
func Options(opts ...safeexec.Option) Option {
	return func(c *config) { c.options = append(c.options, opts...) }
}

// resolve applies opts to the defaults and checks them.
func resolve(ctx context.Context, opts []Option) (config, error) {
	c := config{limit: runtime.GOMAXPROCS(0), queueLimit: math.MaxInt}
	for _, o := range opts {
		if o != nil {
			o(&c)
		}
	}
	switch {
	case ctx == nil:
		return c, &safeexec.ConfigError{Name: "ctx", Reason: "is nil"}
	case c.limit <= 0:
		return c, &safeexec.ConfigError{Name: "group.Limit", Reason: "must be positive"}
	case c.queueLimit < 0:
		return c, &safeexec.ConfigError{Name: "group.QueueLimit", Reason: "must not be negative"}
	case c.interval < 0:
		return c, &safeexec.ConfigError{Name: "group.StartInterval", Reason: "must not be negative"}
	case c.queueTimeoutSet && c.queueTimeout <= 0:
		return c, &safeexec.ConfigError{Name: "group.QueueTimeout", Reason: "must be positive"}
	case c.sameKey < KeyRefuse || c.sameKey > KeyQueue:
		return c, &safeexec.ConfigError{Name: "group.SameKey", Reason: "is no known policy"}
	}
	return c, nil
}
