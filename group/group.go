// Package group runs many commands, each as [safeexec.Run] does, and ends them all at once.
//
//	g, err := group.New(ctx, group.Limit(16), group.StartInterval(2*time.Second),
//		group.Options(safeexec.WithTimeout(10*time.Minute)))
//	for _, station := range stations {
//		jobs = append(jobs, g.GoKey(station, exec.Command("fetch", station)))
//	}
//	for job := range group.Results(jobs...) {
//		res, err := job.Wait() // does not block: job has ended
//	}
//	err = g.Shutdown(ctx)
//
// # What a group promises
//
// Every job has an end and a Result, also one that was never started: its error matches
// [ErrNotStarted] and the reason. At most [Limit] jobs run at a time. After the group's context was
// canceled, or [Group.Shutdown] called, nothing starts, and the group signals all running trees at once;
// it ends a command whose start was under way at that moment like the others. A group goes on after
// failures, unless [StopOnError] says otherwise.
//
// [Group.Shutdown] returns within [Group.StopBound], whatever the commands do, and lists what did not
// end by then. What a run cannot promise, a group cannot either: see package safeexec.
//
// # What blocks, and what it costs
//
// [Group.Go] never blocks: the job starts at once or joins the queue. [Job.Wait] blocks, and the loop
// over [Results]. A job that waits costs some hundred bytes besides its [exec.Cmd], and no goroutine,
// thread or descriptor. The queue has no limit but [QueueLimit], and a job waits as long as those before
// it take, or for [QueueTimeout]. The timeout of a job counts from its start.
//
// A running job costs two goroutines. An idle group has none: whatever makes room starts the next job.
// The group keeps nothing of a job that has ended; to have its Result later, keep the [Job].
//
// # Keys
//
// [Group.GoKey] starts a job only if no other with its key runs. By default it refuses a second one
// with [ErrBusy] while the first runs or waits, so that a stuck tool does not pile up; [SameKey] joins
// or queues it instead. Keys take turns: a job waits for no more than one start of
// each other key before the next job of its own key starts. All jobs without a key count as one key here,
// except that any number of them may run.
//
// # Threads
//
// Goroutines of the group start the commands. Unlike with Run, a caller that is locked to its thread does
// not pass on that thread's namespaces, credentials and scheduling.
//
// Everything here may be used from any number of goroutines.
package group

import (
	"container/list"
	"context"
	"errors"
	"os/exec"
	"slices"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
)

// A Group runs jobs. [New] makes one; the zero Group refuses every job with [ErrNotMade].
type Group struct {
	cfg    config
	ctx    context.Context // of all runs. Once it is done, nothing is started
	cancel context.CancelCauseFunc
	start  func(ctx context.Context, cmd *exec.Cmd, opts ...safeexec.Option) (process, error)

	mu      sync.Mutex // guards what follows, and the fields of jobs that say so
	waiting list.List  // of *Job, the oldest first
	running list.List  // of *Job, in the order of their starts
	turns   list.List  // of *lane: those that have a job to start, the next first
	lanes   map[string]*lane
	cmds    map[*exec.Cmd]*Job // the job that waits or runs with it
	next    time.Time          // of the next start at the earliest
	timer   *time.Timer        // runs advance, at the next start or the next end of a QueueTimeout
	count   uint64             // of the jobs that have ended
	failed  error              // of the run that ended the group, with StopOnError
}

// A lane holds the jobs of one key that wait, in the order of their submission. All without a key
// share one. It exists while it has a job that waits or, under a key, runs.
type lane struct {
	key         string
	first, last *Job
	running     *Job          // nil in the lane without a key
	turn        *list.Element // in turns, or nil
}

// process is what a group uses of a [safeexec.Process].
type process interface {
	PID() int
	Wait() (safeexec.Result, error)
	Report() (safeexec.Report, error)
}

// New returns a group whose jobs end with ctx. A deadline of ctx bounds each run, as it does for
// [safeexec.Run]; without one, each job needs [safeexec.WithTimeout], by [Options] or by Go. The error
// is a *[safeexec.ConfigError] for an option out of range.
//
// The end of ctx or [Group.Shutdown] releases a group that is no longer needed.
func New(ctx context.Context, opts ...Option) (*Group, error) {
	cfg, err := resolve(ctx, opts)
	if err != nil {
		return nil, err
	}
	g := &Group{cfg: cfg, start: start, lanes: make(map[string]*lane), cmds: make(map[*exec.Cmd]*Job)}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	context.AfterFunc(g.ctx, g.refuseWaiting)
	return g, nil
}

func start(ctx context.Context, cmd *exec.Cmd, opts ...safeexec.Option) (process, error) {
	p, err := safeexec.Start(ctx, cmd, opts...)
	if err != nil {
		return nil, err // a nil *Process would be a process
	}
	return p, nil
}

// Go submits a command that was not started and returns its job, without blocking. The options are
// those of [safeexec.Run] and follow the group's own. cmd must not be touched until the job has ended, and
// its files stay open until it is started: until [Job.PID] is not 0, or the job has ended.
//
// Go never fails: a job that cannot be taken has ended with an [Error], and one that cannot be
// started ends with the error of [safeexec.Start]. In both cases the pipes that cmd.StdoutPipe and its
// kin have opened are closed, and another try takes a new Cmd. One that waits or runs already is refused
// with [safeexec.ErrStarted] and left alone.
func (g *Group) Go(cmd *exec.Cmd, opts ...safeexec.Option) *Job { return g.GoKey("", cmd, opts...) }

// GoKey is Go for a job that must not run beside another with the same key. What becomes of a second
// one [SameKey] says. The empty key is no key.
func (g *Group) GoKey(key string, cmd *exec.Cmd, opts ...safeexec.Option) *Job {
	if g == nil {
		g = new(Group)
	}
	j := &Job{
		g: g, key: key, cmd: cmd, opts: slices.Clone(opts), queued: time.Now(), done: make(chan struct{}),
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	joined, err := g.admit(j)
	switch {
	case err != nil:
		g.refuse(err, j)
	case joined == nil:
		g.enter(j)
	case g.cmds[cmd] == nil: // not one that waits or runs
		spend(cmd)
	}
	g.proceed()
	if joined != nil {
		return joined
	}
	return j
}

// admit decides what becomes of a new job: it enters the queue, is the same as another, or is refused.
func (g *Group) admit(j *Job) (joined *Job, refused error) {
	switch l := g.lanes[j.key]; {
	case j.cmd == nil:
		return nil, &safeexec.ConfigError{Name: "cmd", Reason: "is nil"}
	case g.ctx == nil:
		return nil, ErrNotMade
	case g.ctx.Err() != nil:
		return nil, g.whyOver()
	case l != nil && j.key != "" && g.cfg.sameKey == KeyRefuse:
		return nil, ErrBusy
	case l != nil && j.key != "" && g.cfg.sameKey == KeyJoin:
		if l.running != nil {
			return l.running, nil
		}
		return l.first, nil
	case g.cmds[j.cmd] != nil:
		return nil, safeexec.ErrStarted
	case g.waiting.Len() >= g.cfg.queueLimit && (l != nil || !g.open(j.queued)):
		return nil, ErrQueueFull
	}
	return nil, nil
}

// enter puts a job at the end of the queue.
func (g *Group) enter(j *Job) {
	l := g.lanes[j.key]
	if l == nil {
		l = &lane{key: j.key}
		g.lanes[j.key] = l
	}
	if l.first == nil {
		l.first = j
	} else {
		l.last.behind = j
	}
	l.last = j
	j.place = g.waiting.PushBack(j)
	g.cmds[j.cmd] = j
	g.settle(l)
}

// leave takes the first job of a lane out of the queue. No other leaves it: what starts is the first of
// its lane, and so is what has waited longest.
func (g *Group) leave(l *lane) *Job {
	j := l.first
	l.first, j.behind = j.behind, nil
	g.waiting.Remove(j.place)
	j.place = nil
	return j
}

// settle gives a lane a turn if it has a job to start, takes it away if not, and forgets an empty lane.
func (g *Group) settle(l *lane) {
	ready := l.first != nil && l.running == nil
	switch {
	case ready && l.turn == nil:
		l.turn = g.turns.PushBack(l)
	case !ready && l.turn != nil:
		g.turns.Remove(l.turn)
		l.turn = nil
	}
	if l.first == nil && l.running == nil {
		delete(g.lanes, l.key)
	}
}

// open reports whether a job may start now.
func (g *Group) open(now time.Time) bool {
	return g.running.Len() < g.cfg.limit && !now.Before(g.next) && g.ctx.Err() == nil
}

// proceed ends what has waited too long and starts what may start. Its callers hold the lock and call it
// after each change: a job was submitted, a run has ended, the timer fired.
//
// What can happen at the same time, and why each order ends the same way:
//
//   - Go and cancellation: both the context and the queue are looked at under the lock. A job that enters
//     before refuseWaiting gets the lock is refused by it; a later one finds the context done.
//   - A start and cancellation: proceed asks the context last. A job that was taken out of the queue just
//     before is in running, and safeexec.Start asks the same context before it starts anything.
//   - The end of a run and cancellation: the place becomes free, and open says no.
//   - The end of a run, and a second job with its key: the key is free before Done is closed, so a caller that
//     saw the end is not refused for it.
//   - QueueTimeout and a place that becomes free: those that have waited too long leave first.
//   - Two shutdowns: each waits for what it finds running, and nothing is added any more.
func (g *Group) proceed() {
	if g.ctx == nil || g.ctx.Err() != nil {
		return // refuseWaiting empties the queue
	}
	now := time.Now()
	for e := g.waiting.Front(); e != nil && g.cfg.queueTimeout > 0; e = g.waiting.Front() {
		j := e.Value.(*Job)
		if now.Sub(j.queued) < g.cfg.queueTimeout {
			break
		}
		l := g.lanes[j.key]
		g.leave(l)
		g.settle(l)
		g.refuse(ErrQueueTimeout, j)
	}
	for g.turns.Len() > 0 && g.open(now) {
		g.launch(g.turns.Front().Value.(*lane), now)
	}
	g.setTimer(now)
}

// launch starts the first job of a lane, which goes to the end of the turns.
func (g *Group) launch(l *lane, now time.Time) {
	j := g.leave(l)
	j.started = now
	j.place = g.running.PushBack(j)
	if l.key != "" {
		l.running = j
	}
	g.turns.Remove(l.turn)
	l.turn = nil
	g.settle(l)
	g.next = now.Add(g.cfg.interval)
	go g.run(j) // ends with the run, which is bounded
}

// setTimer has advance called when time alone changes something.
func (g *Group) setTimer(now time.Time) {
	var at time.Time
	if g.turns.Len() > 0 && g.running.Len() < g.cfg.limit {
		at = g.next
	}
	if e := g.waiting.Front(); e != nil && g.cfg.queueTimeout > 0 {
		if end := e.Value.(*Job).queued.Add(g.cfg.queueTimeout); at.IsZero() || end.Before(at) {
			at = end
		}
	}
	switch {
	case at.IsZero() && g.timer != nil:
		g.timer.Stop()
	case at.IsZero():
	case g.timer == nil:
		g.timer = time.AfterFunc(at.Sub(now), g.advance)
	default:
		g.timer.Reset(at.Sub(now))
	}
}

func (g *Group) advance() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.proceed()
}

// run is the goroutine of a job that runs.
func (g *Group) run(j *Job) {
	var res safeexec.Result
	p, err := g.start(g.ctx, j.cmd, g.options(j)...)
	if err == nil {
		g.mu.Lock()
		j.process = p
		g.mu.Unlock()
		res, err = p.Wait()
	} else {
		res = j.unstarted(err)
		if !errors.Is(err, safeexec.ErrStarted) { // Start leaves the pipes of what it refuses
			spend(j.cmd)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil && g.cfg.stopOnError && g.ctx.Err() == nil {
		g.failed = err
		g.cancel(ErrJobFailed) // before the place is free
	}
	g.running.Remove(j.place)
	j.place = nil
	if l := g.lanes[j.key]; l != nil && l.running == j {
		l.running = nil
		g.settle(l)
	}
	g.end(j, res, err)
	g.proceed()
}

// options returns the group's options and the job's own.
func (g *Group) options(j *Job) []safeexec.Option {
	return append(slices.Clone(g.cfg.options), j.opts...)
}

// end makes the outcome of a job known. It is called with the lock.
func (g *Group) end(j *Job, res safeexec.Result, err error) {
	g.count++
	j.rank = g.count
	j.result, j.err = &res, err
	j.process, j.opts = nil, nil
	if g.cmds[j.cmd] == j {
		delete(g.cmds, j.cmd)
	}
	for _, watcher := range j.watchers {
		watcher <- j // never blocks: it has room for each of its jobs
	}
	j.watchers = nil
	close(j.done)
}

// refuse ends a job that has left the queue, or never entered it. It is called with the lock, so that
// once Shutdown has emptied the queue no other call is still at it.
func (g *Group) refuse(reason error, j *Job) {
	err := notStarted(j.cmd, reason)
	if owner := g.cmds[j.cmd]; owner == nil || owner == j {
		spend(j.cmd)
	}
	g.end(j, j.unstarted(err), err)
}

// refuseWaiting ends all jobs of the queue, once the context is done.
func (g *Group) refuseWaiting() {
	g.mu.Lock()
	defer g.mu.Unlock()
	reason := g.whyOver()
	for e := g.waiting.Front(); e != nil; e = g.waiting.Front() {
		l := g.lanes[e.Value.(*Job).key]
		j := g.leave(l)
		g.settle(l)
		g.refuse(reason, j)
	}
	if g.timer != nil {
		g.timer.Stop()
	}
}
