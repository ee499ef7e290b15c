package guard_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/job"
)

// What a program runs its commands with.
const (
	withOSExec        = "os/exec"
	withNothing       = "nothing else"
	withNotifyContext = "NotifyContext"
	withGuard         = "wait"
)

// ends are the ways in which a program can end. Each takes its PID, which is not that of p where it is executed
// through another.
var ends = map[string]func(t *testing.T, p *program, pid int){
	"SIGKILL":  signals(syscall.SIGKILL),
	"SIGTERM":  signals(syscall.SIGTERM),
	"hangup":   signals(syscall.SIGHUP),
	"Ctrl-C":   interrupt,
	"exit":     func(t *testing.T, p *program, _ int) { p.tell(t, "exit") },
	"panic":    func(t *testing.T, p *program, _ int) { p.tell(t, "panic") },
	"execute":  func(t *testing.T, p *program, _ int) { p.tell(t, "execute") },
	"debugger": func(t *testing.T, _ *program, pid int) { debug(t, pid) },
}

func signals(sig syscall.Signal) func(*testing.T, *program, int) {
	return func(t *testing.T, _ *program, pid int) { require.NoError(t, syscall.Kill(pid, sig)) }
}

// interrupt does what the terminal does at Ctrl-C.
func interrupt(t *testing.T, _ *program, pid int) {
	group, err := unix.Getpgid(pid)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(-group, syscall.SIGINT))
}

// debug has a debugger attach to the process, and exit, which kills it: gdb(1) does that with what it has started.
func debug(t *testing.T, pid int) {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(exe, strconv.Itoa(pid))
	cmd.Env = append(os.Environ(), hostVariable+"="+debugger)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err)
	if string(out) == unix.EPERM.Error() {
		t.Skip("no process may be traced that is no child")
	}
	require.Empty(t, string(out))
}

// debugger is what a host does that debugs another.
const debugger = "debug"

// attach is what [debug] starts.
func attach() {
	pid, err := strconv.Atoi(os.Args[1])
	if err == nil {
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(pid), 0, unix.PTRACE_O_EXITKILL, 0, 0)
		err = errno
		if errno == 0 {
			return
		}
	}
	fmt.Print(err)
}

// heard are those ends of which a program that catches signals learns before.
var heard = []string{"Ctrl-C", "SIGTERM", "hangup"}

// Without a guard a command outlives its program, but for signals that are caught, and those that it gets itself.
func TestWithoutAGuard(t *testing.T) {
	t.Parallel()
	for _, with := range []string{withOSExec, withNothing, withNotifyContext} {
		for how, die := range ends {
			t.Run(with+"/"+how, func(t *testing.T) {
				t.Parallel()
				p := start(t, with, "echo started; exec sleep 7010")
				require.Equal(t, "started", p.line(t))
				die(t, p, p.Process.Pid)
				_ = p.Wait()
				p.check(t, endsWithout(with, how))
			})
		}
	}
}

// endsWithout reports whether the command ends although there is no guard.
func endsWithout(with, how string) bool {
	return with == withOSExec && how == "Ctrl-C" || with == withNotifyContext && slices.Contains(heard, how)
}

// check makes sure that the command is gone, or lives.
func (p *program) check(t *testing.T, gone bool) {
	t.Helper()
	if gone {
		p.canary.WaitGone(t)
		return
	}
	assert.True(t, p.canary.Alive())
}

// However the program ends, its tree does.
func TestTheTreeDiesWithItsProgram(t *testing.T) {
	t.Parallel()
	for how, die := range ends {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := start(t, withGuard, script)
			require.Equal(t, "started", p.line(t))
			testproc.Wait(t, func() bool { return len(p.canary.Living()) >= 5 })
			die(t, p, p.Process.Pid)
			p.canary.WaitGone(t)
			p.guardGone(t)
			records := p.records(t)
			require.Len(t, records, 1)
			r := records[0]
			assert.Equal(t, "sh", r["program"])
			assert.EqualValues(t, p.Process.Pid, r["host"])
			assert.Empty(t, r["survivors"])
			assert.GreaterOrEqual(t, len(r["killed"].([]any)), 4, r)
			assert.NotContains(t, r, "error")
			assert.NotContains(t, fmt.Sprint(r), "trap", "no arguments")
		})
	}
}

// besideJob is what a host does that also starts a job.
const besideJob = "beside a job"

// A job is for the next program: the guard ends the runs alone.
func TestJobIsLeft(t *testing.T) {
	t.Parallel()
	p := start(t, besideJob, "echo started; exec sleep 7016")
	require.Equal(t, "started", p.line(t))
	require.NoError(t, p.Process.Kill())
	p.canary.WaitGone(t)
	p.guardGone(t)
	assert.Len(t, p.records(t), 1)
	store, err := job.Open(filepath.Join(filepath.Dir(p.log), "jobs"))
	require.NoError(t, err)
	defer store.Close()
	jobs, err := store.List()
	require.NoError(t, err)
	require.Len(t, jobs, 1)
	st, err := jobs[0].Status()
	assert.NoError(t, err)
	assert.Equal(t, job.Running, st.State)
	_, err = jobs[0].Kill(testproc.Deadline(t))
	assert.NoError(t, err)
}

// Where the kernel kills the program for want of memory, the guard is too small to be chosen.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	p := start(t, withGuard, "echo started; exec sleep 7013", throughVariable+"="+joining(t, limited(t, "200M")))
	require.Equal(t, "started", p.line(t))
	p.tell(t, "allocate")
	p.canary.WaitGone(t)
	p.guardGone(t)
	_ = p.Wait()
	if p.ProcessState.Exited() {
		t.Skip("the limit does not kill: there is swap")
	}
	assert.Equal(t, syscall.SIGKILL, p.ProcessState.Sys().(syscall.WaitStatus).Signal())
	assert.Len(t, p.records(t), 1)
}

// limited returns a cgroup whose processes have that much memory.
func limited(t *testing.T, memory string) (dir string) {
	t.Helper()
	for _, file := range []string{
		"/sys/fs/cgroup/memory/%s/memory.limit_in_bytes", "/sys/fs/cgroup/%s/memory.max", "/sys/fs/cgroup/unified/%s/memory.max",
	} {
		file = fmt.Sprintf(file, "safeexec-test-"+strconv.Itoa(os.Getpid()))
		dir = filepath.Dir(file)
		if os.Mkdir(dir, 0o755) != nil {
			continue
		}
		made := dir // not what the next round makes
		t.Cleanup(func() { testproc.Wait(t, func() bool { _ = os.Remove(made); return !exists(made) }) })
		if exists(file) && os.WriteFile(file, []byte(memory), 0) == nil {
			return dir
		}
	}
	t.Skip("no cgroup with a limit of memory can be made here")
	return ""
}

// joining returns a command that puts itself into a cgroup, and becomes this program.
func joining(t *testing.T, cgroup string) string {
	exe, err := os.Executable()
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "join")
	testproc.WriteExecutable(t, path, []byte("#!/bin/sh\necho 0 >"+cgroup+"/cgroup.procs\nexec "+exe+` "$@"`), 0o700)
	return path
}
