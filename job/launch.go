package job

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/execstop"
	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/preflight"
	"github.com/seed841d8200/safeexec/internal/proctree"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A launch is one start of a job. Its steps:
//
//	intent   the record says that a start is under way, and the environment mark that finds what comes of it
//	stop     the command stands before its first instruction, and dies if this program does
//	mark     it has its limits and the limit mark
//	commit   the record names it
//	release  it runs
//
// If this program is killed before the release, nothing has run. Without an exec stop the command
// runs from before the mark on, and the environment mark finds what a kill in between leaves.
type launch struct {
	job    *Job
	record *record
	config *config
	before *record  // of the run before; nil if there was none
	left   bool     // processes that could not be ended
	lock   *os.File // of the record, which a holder shares

	files  []*os.File // of the command
	own    *exec.Cmd
	mark   proctree.Mark
	socket *socket
}

func (l *launch) run(ctx context.Context) error {
	if err := l.prepare(); err != nil {
		return err
	}
	if l.record.Settings.KeepStatus {
		return l.runHeld(ctx)
	}
	return l.runHere(ctx)
}

// prepare makes the directory, and the socket of this program's in it.
func (l *launch) prepare() error {
	j, set := l.job, &l.record.Settings
	if err := os.MkdirAll(j.dir(), 0o700); err != nil {
		return err
	}
	if err := syncDir(j.store.root); err != nil {
		return err
	}
	removeExits(j.dir())
	set.Socket = ""
	if !set.Notify {
		return nil
	}
	var err error
	if l.socket, err = listen(j.dir(), l.record.Command.User != nil); err == nil {
		set.Socket = l.socket.path
	}
	return err
}

// runHere starts the command as a child of this process.
func (l *launch) runHere(ctx context.Context) error {
	if err := l.intent(); err != nil {
		return err
	}
	if err := l.look(ctx); err != nil {
		return err
	}
	if found := fdtable.Seal(); found.Err != nil {
		return found.Err
	}
	defer fdtable.CloseAll(l.files)
	err := l.onThread(func() error { return l.spawnStopped(ctx) })
	if errors.Is(err, execstop.ErrRefused) || errors.Is(err, errLosesPrivilege) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err = l.onThread(l.spawn)
	}
	return err
}

func (l *launch) intent() error {
	j, r, set := l.job, l.record, &l.record.Settings
	log, from, err := openLog(j.LogPath(), set.LogMax)
	if err != nil {
		return err
	}
	l.files = append(l.files, log)
	in, err := l.openInput()
	if err != nil {
		return err
	}
	env := r.Command.Env.strings()
	if set.Notify {
		env = append(slices.DeleteFunc(env, ofManager), "NOTIFY_SOCKET="+set.Socket)
		if set.Watchdog > 0 {
			env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(set.Watchdog.Microseconds(), 10))
		}
	}
	c := &r.Command
	l.own = &exec.Cmd{
		Path: string(c.Path), Args: c.Args.strings(), Dir: string(c.Dir), Env: env, SysProcAttr: c.User.Attr(),
		Stdin: in, Stdout: log, Stderr: log,
	}
	l.mark.Begin()
	l.own.Env = l.mark.Environ(l.own)
	*r = record{
		Name: r.Name, Run: r.Run + 1, Phase: phaseStarting, Command: r.Command, Settings: *set,
		Boot: j.store.place.boot, Namespace: j.store.place.namespace, LogFrom: from, Started: time.Now(),
		Trace: l.mark.Trace(proctree.Process{Start: ticks()}),
	}
	return r.write(j.dir())
}

// ofManager reports whether a variable is what a service manager has told this program. With
// WATCHDOG_PID of another process the job would not send WATCHDOG=1.
func ofManager(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID"
}

func (l *launch) openInput() (*os.File, error) {
	if !l.record.Settings.Input {
		return proctree.DevNull()
	}
	path := filepath.Join(l.job.dir(), inputFile)
	_ = os.Remove(path)
	if err := sys.MakeFIFO(path, 0o600); err != nil {
		return nil, err
	}
	// Both ends, so that it does not wait for a writer and none that goes away is its end.
	in, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		l.files = append(l.files, in)
	}
	return in, err
}

// look touches what the start will touch, so that a file system that does not answer holds up
// nothing else.
func (l *launch) look(ctx context.Context) error {
	done := make(chan struct{}, 1)
	var look preflight.Look
	look.Begin(l.own, func() { done <- struct{}{} })
	if look.Done() || look.Await() {
		return nil
	}
	bound := time.NewTimer(lookBound)
	defer bound.Stop()
	select {
	case <-done:
		return nil
	case <-bound.C:
		return safeexec.ErrStartStalled
	case <-ctx.Done():
		return errors.Join(safeexec.ErrStartStalled, context.Cause(ctx))
	}
}

// lookBound is how long a start waits for a file system; stopBound, for execve.
const (
	lookBound = 10 * time.Second
	stopBound = 10 * time.Second
)

// onThread calls f on a thread with the umask that the job is to have.
func (l *launch) onThread(f func() error) error {
	mask := l.record.Settings.Umask
	if mask == nil {
		return f()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := sys.UmaskThread(*mask); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

var errLosesPrivilege = errors.New("the program would lose its privilege")

// spawnStopped starts the command up to its exec stop, and lets it go.
func (l *launch) spawnStopped(ctx context.Context) error {
	own := *l.own
	stop, err := execstop.Start(&own)
	if err != nil {
		return err
	}
	defer stop.Close()
	err = l.prepareStopped(ctx, stop, &own)
	if err == nil {
		err = stop.Release()
	}
	if err != nil {
		stop.Kill()
		reap(own.Process)
		return err
	}
	l.own = &own
	return nil
}

func (l *launch) prepareStopped(ctx context.Context, stop *execstop.Stop, own *exec.Cmd) error {
	until := time.Now().Add(stopBound)
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		there, err := stop.Stopped()
		if err != nil {
			return err
		}
		if there {
			break
		}
		if stop.Exited() { // killed in execve, or by another process: it has run nothing, and its status says why
			return l.commit(own)
		}
		if !time.Now().Before(until) {
			return safeexec.ErrStartStalled
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	if err := stop.DieWithUs(); err != nil {
		return err
	}
	if lost, err := stop.LosesPrivilege(); err != nil || lost {
		return errLosesPrivilege
	}
	l.mark.Limit(own.Process.Pid)
	if err := l.limit(own.Process.Pid); err != nil && !stop.Exited() {
		return errors.Join(safeexec.ErrLimits, err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.commit(own)
}

// spawn starts the command where it cannot be stopped.
func (l *launch) spawn() error {
	own := *l.own
	own.SysProcAttr = l.record.Command.User.Attr()
	if err := l.mark.Start(own.Start); err != nil {
		return err
	}
	l.mark.Limit(own.Process.Pid)
	var tree proctree.Tree // of those that it started before it had the mark
	tree.Init(proctree.Origin{Process: own.Process, Started: l.mark.Started(), Mark: &l.mark})
	tree.MarkBorn()
	tree.Close()
	err := l.limit(own.Process.Pid)
	if err != nil {
		err = errors.Join(safeexec.ErrLimits, err)
	} else {
		err = l.commit(&own)
	}
	if err != nil { // it has run, and may have started others
		ctx, cancel := context.WithTimeout(context.Background(), l.record.Settings.Kill)
		defer cancel()
		tr := l.mark.Trace(proctree.Inspect(own.Process.Pid))
		_, e := endTree(ctx, tr, l.record.Settings.killOnly())
		l.left = e != nil
		reap(own.Process)
		return errors.Join(err, e)
	}
	l.own = &own
	return nil
}

// reap reaps a child that was sent SIGKILL. That it does not die, since a file system holds it up,
// is waited out by a goroutine.
func reap(p *os.Process) {
	done := make(chan struct{})
	go func() {
		_, _ = p.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(stopBound):
	}
}

// limit sets what the options say on our child.
func (l *launch) limit(pid int) error {
	set := &l.record.Settings
	for r, n := range set.Limits {
		if err := proctree.SetLimit(pid, resources[safeexec.Resource(r)], n); err != nil {
			return err
		}
	}
	if set.OOMScore != nil {
		path := fmt.Sprintf("/proc/%d/oom_score_adj", pid)
		return os.WriteFile(path, []byte(strconv.Itoa(*set.OOMScore)), 0)
	}
	return nil
}

var resources = map[safeexec.Resource]proctree.Resource{
	safeexec.LimitCPU: proctree.ResourceCPU, safeexec.LimitAddressSpace: proctree.ResourceAddressSpace,
	safeexec.LimitOpenFiles: proctree.ResourceOpenFiles, safeexec.LimitProcesses: proctree.ResourceProcesses,
	safeexec.LimitFileSize: proctree.ResourceFileSize, safeexec.LimitCore: proctree.ResourceCore,
}

// commit records the identity of the command. It is our child, which pins the number.
func (l *launch) commit(own *exec.Cmd) error {
	r := l.record
	leader := proctree.Inspect(own.Process.Pid)
	r.Trace, r.Phase, r.Started = l.mark.Trace(leader), phaseStarted, time.Now()
	if leader.Start == 0 {
		return safeexec.ErrTreeUnseen // without /proc it would never be found again
	}
	if r.Settings.Timeout > 0 {
		now, err := sys.Boottime()
		if err != nil {
			return err
		}
		r.Deadline = now + min(r.Settings.Timeout, math.MaxInt64-now)
	}
	if err := r.write(l.job.dir()); err != nil {
		return err
	}
	return writePIDFile(r)
}

// undo makes the job what it was before a start that failed, unless something of that runs.
func (l *launch) undo() {
	fdtable.CloseAll(l.files)
	l.mark.End()
	if l.socket != nil {
		l.socket.close()
	}
	if l.left {
		return // Adopt finds it by the record
	}
	l.record.removeOutside()
	if l.before == nil {
		_ = removeFiles(l.job.dir())
		return
	}
	_ = l.before.write(l.job.dir())
}

func writePIDFile(r *record) error {
	path := r.Settings.PIDFile
	if path == "" {
		return nil
	}
	through := fmt.Sprintf("%s.%d.new", path, r.Trace.PID)
	return replace(path, through, []byte(strconv.Itoa(r.Trace.PID)+"\n"), 0o644)
}

// removePIDFile removes the file unless it names another process by now.
func removePIDFile(r *record) {
	path := r.Settings.PIDFile
	if path == "" {
		return
	}
	if data, err := os.ReadFile(path); err == nil && string(data) == strconv.Itoa(r.Trace.PID)+"\n" {
		_ = os.Remove(path)
	}
}
