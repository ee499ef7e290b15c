package job

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"
	"time"
)

type kind int

const (
	kindWait kind = iota
	kindNotify
	kindPort
)

// A Condition is when a job is ready.
type Condition struct {
	kind kind
	addr string                                  // of kindPort
	wait func(ctx context.Context, j *Job) error // nil once it is true, else the context's error
	bad  string
}

// Port is true once a process accepts TCP connections at the address. If one does before the start,
// the start fails with [ErrPortTaken].
func Port(addr string) Condition {
	c := Condition{kind: kindPort, addr: addr, wait: func(ctx context.Context, _ *Job) error {
		return again(ctx, func(ctx context.Context) bool { return accepts(ctx, addr) })
	}}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		c.bad = "Port: " + err.Error()
	}
	return c
}

func accepts(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// LogLine is true once a line of the log matches.
func LogLine(re *regexp.Regexp) Condition {
	if re == nil {
		return Condition{bad: "LogLine: is nil"}
	}
	return Condition{wait: func(ctx context.Context, j *Job) error {
		for line, err := range j.Follow(ctx) {
			if err != nil {
				return err
			}
			if re.MatchString(line.Text) {
				return nil
			}
		}
		<-ctx.Done() // the job has ended, which is noticed elsewhere
		return ctx.Err()
	}}
}

// File is true once there is a file of that name. A file that is there before the start counts as
// well.
func File(path string) Condition {
	return Probe(func(context.Context) bool {
		_, err := os.Stat(path)
		return err == nil
	})
}

// Uptime is true once the job has run for that long.
func Uptime(d time.Duration) Condition {
	return Condition{wait: func(ctx context.Context, _ *Job) error { return sleep(ctx, d) }}
}

// Probe is true once f returns true. It is called again and again, every 20 to 250 ms, and has to
// obey its context.
func Probe(f func(context.Context) bool) Condition {
	if f == nil {
		return Condition{bad: "Probe: is nil"}
	}
	return Condition{wait: func(ctx context.Context, _ *Job) error { return again(ctx, f) }}
}

// Notify is true once the job sends READY=1 (sd_notify(3)). Only processes of its tree count, which
// have to live until the message is received: systemd-notify(1) waits for that. STATUS= is kept in
// [Status.Text], EXTEND_TIMEOUT_USEC= has Ready wait at least that long from then on, WATCHDOG=1 is for
// [Watchdog]. The socket is in the job's directory, and in one of its own in the system's directory
// for temporary files if that path is too long.
func Notify() Condition {
	return Condition{kind: kindNotify, wait: func(ctx context.Context, j *Job) error {
		k := j.keeper()
		if k == nil || k.socket == nil {
			<-ctx.Done()
			return ctx.Err()
		}
		select {
		case <-k.socket.ready:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
}

func again(ctx context.Context, f func(context.Context) bool) error {
	for pause := 20 * time.Millisecond; !f(ctx); pause = min(2*pause, 250*time.Millisecond) {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// portsFree refuses a start whose condition is true already.
func (c *config) portsFree(ctx context.Context) error {
	for _, cond := range c.ready {
		if cond.kind == kindPort && accepts(ctx, cond.addr) {
			return ErrPortTaken
		}
	}
	return nil
}

// A readiness is the time between the start of a job and its being ready, or not.
type readiness struct {
	c *config
	k *keeper
}

// await waits until the first condition is true, the job has ended, or the time is up.
func (s readiness) await(ctx context.Context) error {
	c, k := s.c, s.k
	if k == nil {
		return nil // the store was closed meanwhile
	}
	defer close(k.ready)
	if len(c.ready) == 0 {
		return nil
	}
	waits, cancel := context.WithCancel(ctx)
	results := make(chan error, len(c.ready))
	for _, cond := range c.ready {
		go func() { results <- cond.wait(waits, k.job) }()
	}
	pending := len(c.ready)
	cause := s.race(ctx, results, &pending)
	cancel()
	join(results, pending)
	if cause == nil {
		k.record(func(r *record) {
			r.Ready = true
			k.setNews(r)
		})
		return nil
	}
	return s.unready(ctx, cause)
}

// errLate says that the time is up.
var errLate = errors.New("time is up")

func (s readiness) race(ctx context.Context, results <-chan error, pending *int) error {
	k := s.k
	until := time.Now().Add(s.c.within)
	timer := time.NewTimer(s.c.within)
	defer timer.Stop()
	var extended <-chan time.Duration
	if k.socket != nil {
		extended = k.socket.extended
	}
	gone := k.gone
	var failed []error
	for {
		select {
		case err := <-results:
			*pending--
			if err == nil {
				return nil
			}
			if failed = append(failed, err); *pending == 0 {
				return errors.Join(failed...)
			}
		case d := <-extended:
			if now := time.Now(); now.Add(d).After(until) { // never shortened, as systemd.service(5) has it
				until = now.Add(d)
				timer.Reset(d)
			}
		case <-gone:
			if !k.forked() {
				return ErrEnded
			}
			gone = nil // a daemon that has put itself into the background
		case <-k.over:
			return ErrEnded
		case <-timer.C:
			return errLate
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-k.ctx.Done():
			select {
			case <-k.over:
				return ErrEnded
			default:
				return context.Canceled // the store was closed
			}
		}
	}
}

// forked reports whether the first process, which has exited, did well and has left others.
func (k *keeper) forked() bool {
	if k.failure() != nil {
		return false
	}
	left, err := census(k.trace)
	return err != nil || len(left) > 0
}

// joinTime is what a caller's probe is given to obey its context, before it is left behind.
const joinTime = time.Second

func join(results <-chan error, pending int) {
	late := time.NewTimer(joinTime)
	defer late.Stop()
	for ; pending > 0; pending-- {
		select {
		case <-results: //nolint:errcheck // what they come to is of no more interest
		case <-late.C:
			return
		}
	}
}

// lastLines is how many lines of the log are in the error.
const lastLines = 20

func (s readiness) unready(ctx context.Context, cause error) error {
	k, j := s.k, s.k.job
	e := &ReadyError{Cause: cause}
	if errors.Is(cause, errLate) {
		e.Cause = nil
	}
	late := context.WithoutCancel(ctx)
	if !errors.Is(cause, ErrEnded) {
		if report, err := j.Report(late); err == nil {
			e.Report = &report
		}
	}
	// After all that follows: its last lines may be why.
	defer func() {
		if r, err := read(j.dir()); err == nil {
			e.Last, _ = tail(j.LogPath(), lastLines, r.LogFrom)
		}
	}()
	if s.c.unready || errors.Is(cause, ErrEnded) { // of one whose first process failed, others may be left
		bound, cancel := context.WithTimeout(late, k.set.Grace+k.set.Kill)
		defer cancel()
		_, err := j.end(bound, late, ByUnready, k.id(), k.set.ladder())
		e.Stopped = err == nil
		if err != nil {
			return errors.Join(e, err)
		}
	}
	return e
}
