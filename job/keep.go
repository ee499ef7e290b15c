package job

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A keeper is what this program does for one run of a job while it lives. Each concern is a
// goroutine; all end with the store or the job, and wait joins them. They park without a thread.
type keeper struct {
	job     *Job
	run     int
	trace   proctree.Trace
	set     settings
	until   time.Duration // the deadline, since boot
	process *os.Process   // our child; nil for a job that was adopted
	mark    *proctree.Mark
	socket  *socket
	lock    *os.File // says that a program keeps the job

	ctx     context.Context // done by Close and once the job has ended
	cancel  context.CancelFunc
	writing context.Context // done by forget
	forget  context.CancelFunc
	over    chan struct{}    // closed once the end of the job is in the record
	late    chan error       // what came of ending it at its timeout
	ready   chan struct{}    // closed once Ready is no longer waited for
	state   *os.ProcessState // of our child; written before gone is closed
	gone    chan struct{}    // closed once the first process has exited, as far as that is seen

	goroutines sync.WaitGroup
	released   chan struct{} // closed once they have ended and nothing is held any more
}

// keep begins to keep a job that was just started. The caller has its record's lock. The keeper is nil if the store was
// closed meanwhile: the job runs, as it would had this program ended.
func (s *Store) keep(l *launch) *keeper {
	lock, _, err := lockKeeper(l.job.dir(), int64(l.record.Run))
	if err != nil {
		lock = nil // for want of descriptors perhaps; the job runs all the same
	}
	k := newKeeper(l.job, l.record, lock)
	k.mark, k.socket = &l.mark, l.socket
	if l.own != nil { // else a holder's
		k.process = l.own.Process
	}
	if !s.add(k) {
		k.release()
		return nil
	}
	k.begin()
	return k
}

func newKeeper(j *Job, r *record, lock *os.File) *keeper {
	k := &keeper{
		job: j, run: r.Run, trace: r.Trace, set: r.Settings, until: r.Deadline, lock: lock,
		over: make(chan struct{}), gone: make(chan struct{}), released: make(chan struct{}),
		late: make(chan error, 1), ready: make(chan struct{}),
	}
	k.ctx, k.cancel = context.WithCancel(j.store.ctx)
	k.writing, k.forget = context.WithCancel(context.Background())
	return k
}

func (s *Store) add(k *keeper) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.keepers[k.job.name] = k
	return true
}

// begin starts the goroutines.
func (k *keeper) begin() {
	k.goroutines.Go(k.watch)
	if k.set.Timeout > 0 {
		k.goroutines.Go(k.enforce)
	}
	if k.set.LogMax > 0 {
		k.goroutines.Go(k.boundLog)
	}
	if k.socket != nil {
		k.goroutines.Go(k.hear)
		k.goroutines.Go(k.writeNews)
		if k.set.Watchdog > 0 {
			k.goroutines.Go(k.guard)
		}
	}
	go func() {
		k.goroutines.Wait()
		k.release()
	}()
}

func (k *keeper) id() startID { return startID{k.run, k.trace.Environ} }

// wait joins the goroutines.
func (k *keeper) wait() { <-k.released }

func (k *keeper) release() {
	k.cancel()
	k.forget()
	if k.socket != nil {
		k.socket.close()
	}
	if k.mark != nil {
		k.mark.End()
	}
	if k.lock != nil {
		k.lock.Close()
	}
	close(k.released)
}

func (j *Job) keeper() *keeper {
	j.store.mu.Lock()
	defer j.store.mu.Unlock()
	return j.store.keepers[j.name]
}

// forgetKeeper joins the keeper of a run that has ended. The caller has the record's lock, which
// the keeper may be waiting for.
func (j *Job) forgetKeeper() {
	if k := j.keeper(); k != nil {
		k.forget()
		k.cancel()
		k.wait()
		j.store.mu.Lock()
		defer j.store.mu.Unlock()
		delete(j.store.keepers, j.name)
	}
}

// lockKeeper takes the lock that says that this program keeps a run of a job: the byte of the run's
// number, since the keeper of the run before may not have let go yet. It reports false if another
// program has it.
func lockKeeper(dir string, at int64) (*os.File, bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, keeperFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	locked, err := tryLock(f, at)
	if err != nil || !locked {
		f.Close()
		return nil, false, err
	}
	return f, true, nil
}

// isKept reports whether some program keeps the run.
func isKept(dir string, run int) bool { return isLocked(dir, int64(run)) }

func isLocked(dir string, at int64) bool {
	f, err := os.OpenFile(filepath.Join(dir, keeperFile), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	kept := false
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { kept, _ = sys.LockHeld(int(fd), at) })
	}
	return kept
}

// watch waits for the first process and then for the whole tree, and writes down what it sees.
func (k *keeper) watch() {
	exit, seen := k.awaitFirst()
	if !seen {
		return
	}
	close(k.gone)
	if exit != nil {
		k.record(func(r *record) { r.Exit, r.Used = exit, usageOf(k.state) })
	}
	if awaitEmpty(k.ctx, k.trace) != nil {
		return
	}
	k.record(func(r *record) {
		k.setNews(r)
		r.close()
	})
	close(k.over)
	k.cancel()
}

// failure is that of the first process, if it was our child and has ended.
func (k *keeper) failure() error {
	select {
	case <-k.gone:
		if k.state != nil && !k.state.Success() {
			return &exec.ExitError{ProcessState: k.state}
		}
	default:
	}
	return nil
}

// record changes the record. It goes on when the store closes: what was seen should not be lost.
func (k *keeper) record(change func(*record)) {
	ctx, cancel := context.WithTimeout(k.writing, lockBound)
	defer cancel()
	_ = k.job.update(ctx, k.id(), change) // should it fail, the job is gone with its status unknown
}

// awaitFirst waits for the first process, reaps it if it is our child, and returns how it ended;
// nil if that cannot be had. It reports false if the store was closed before.
func (k *keeper) awaitFirst() (*Exit, bool) {
	// Not the pidfd of the os.Process: to wait for ours changes it.
	root, err := proctree.Hold(k.trace.PID, k.trace.Start)
	if err == nil {
		defer root.Close()
	}
	fd := -1
	if err == nil {
		if fd = root.PidfdOf(); fd >= 0 {
			defer sys.Close(fd)
		}
	}
	err = awaitDeath(k.ctx, fd, proctree.Process{PID: k.trace.PID, Start: k.trace.Start})
	if err != nil && proctree.MayLive(k.trace.PID, k.trace.Start) {
		return nil, false
	}
	if k.process != nil {
		state, err := k.process.Wait()
		if err != nil {
			return nil, true // another wait took it
		}
		k.state = state
		return exitOfState(state), true
	}
	return k.exitOf(fd), true
}

// awaitDeath waits for a process, through a pidfd if there is one and descriptors to wait for it.
func awaitDeath(ctx context.Context, fd int, p proctree.Process) error {
	if fd >= 0 {
		if err := awaitReadable(ctx, fd); err == nil || ctx.Err() != nil {
			return err
		}
	}
	for pause := time.Millisecond; proctree.MayLive(p.PID, p.Start); pause = min(2*pause, lastPause) {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	return nil
}

// lastPause is the longest pause between two looks where nothing can be waited for.
const lastPause = 100 * time.Millisecond

// reapTime is how long the parent of a process that is no child of ours has to reap it, before its
// status is unknown.
const reapTime = 200 * time.Millisecond

// exitOf returns how a process ended that another process reaps.
func (k *keeper) exitOf(fd int) *Exit {
	now := time.Now()
	until, held := now.Add(reapTime), now.Add(lockBound)
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if isLocked(k.job.dir(), holds(k.run)) {
			until = held
		} else if r, err := read(k.job.dir()); err == nil && r.id() == k.id() && r.Exit != nil {
			return r.Exit
		}
		if ws, ok := sys.ExitOf(fd); ok {
			return exitOf(ws)
		}
		if ws, ok := proctree.ExitOfZombie(k.trace.PID, k.trace.Start); ok {
			return exitOf(ws)
		}
		if time.Now().After(until) || sleep(k.ctx, pause) != nil {
			return nil
		}
	}
}

// awaitReadable waits until a descriptor is readable, without a thread.
func awaitReadable(ctx context.Context, fd int) error {
	own, err := sys.Dup(fd)
	if err != nil {
		return err
	}
	if err := sys.SetNonblock(own); err != nil { // of the open file description, which is not shared with os.Process
		sys.Close(own)
		return err
	}
	f := os.NewFile(uintptr(own), "watched")
	defer f.Close()
	if err := f.SetReadDeadline(time.Time{}); err != nil {
		return pollReadable(ctx, fd)
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	err = conn.Read(func(fd uintptr) bool {
		found, err := sys.Ready(int(fd))
		return err != nil || found.Readable
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// pollReadable stands in for awaitReadable where the runtime cannot poll the descriptor.
func pollReadable(ctx context.Context, fd int) error {
	for pause := time.Millisecond; ; pause = min(2*pause, lastPause) {
		if found, err := sys.Ready(fd); err != nil || found.Readable {
			return err
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// awaitEmpty waits until nobody of a tree lives. Between two looks it waits for the death of one of
// them.
func awaitEmpty(ctx context.Context, tr proctree.Trace) error {
	for pause := time.Millisecond; ; {
		watched, err := lookOnce(ctx, tr)
		switch {
		case err == nil && !watched:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, safeexec.ErrProtected):
			return err
		case err == nil:
			pause = time.Millisecond
			continue
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, time.Second) // it could not be looked at, and may be on a busy machine again and again
	}
}

// lookOnce looks, and waits for the death of the oldest that it found. It reports whether it found
// any. While it waits it holds that one's descriptor and nothing else of the tree.
func lookOnce(ctx context.Context, tr proctree.Trace) (bool, error) {
	members, err := census(tr)
	if err != nil || len(members) == 0 {
		return false, err
	}
	m := slices.MinFunc(members, func(a, b proctree.Process) int { return cmp.Compare(a.Start, b.Start) })
	fd := -1
	if root, err := proctree.Hold(m.PID, m.Start); err == nil {
		defer root.Close()
		if fd = root.PidfdOf(); fd >= 0 {
			defer sys.Close(fd)
		}
	}
	return true, awaitDeath(ctx, fd, m)
}

// enforce ends the job at its timeout.
func (k *keeper) enforce() {
	for {
		now, err := sys.Boottime()
		if err != nil || now >= k.until {
			break
		}
		// The timer does not count while the machine is suspended, and the deadline does.
		if sleep(k.ctx, min(k.until-now, time.Minute)) != nil {
			return
		}
	}
	k.endForSure(ByTimeout, k.late)
}

// endForSure ends the job, again and again until that succeeds, and tells what came of the first time. A look that
// proves nothing on a busy machine and a record that cannot be read must not give it another life.
func (k *keeper) endForSure(reason Reason, first chan<- error) {
	for pause := lastPause; ; pause = min(2*pause, time.Minute) {
		err := k.end(reason)
		select {
		case first <- err:
		default: // one is queued already, or nothing listens
		}
		if err == nil || sleep(k.ctx, pause) != nil {
			return
		}
	}
}

// end ends the job for a reason of the keeper's.
func (k *keeper) end(reason Reason) error {
	if k.ctx.Err() != nil {
		return k.ctx.Err()
	}
	_, err := k.job.end(k.ctx, k.writing, reason, k.id(), k.set.ladder())
	if k.writing.Err() != nil {
		return nil //nolint:nilerr // what ended k.writing has the record's lock, and has seen the end
	}
	return err
}
