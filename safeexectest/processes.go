package safeexectest

import (
	"fmt"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// markVariable marks the environment of all processes that a test starts.
const markVariable = "SAFEEXECTEST_RUN"

// settleTime is how long what is on its way out may take to end before it counts as left.
var settleTime = 5 * time.Second

var runs atomic.Int64

// NoLeakedProcesses fails the test if, when it ends, a process is left that the test started: a
// child of this process, running or a zombie, or a descendant that another process adopted and that
// still has the environment variable SAFEEXECTEST_RUN that NoLeakedProcesses sets. What ends within
// five seconds is not left. Call it first, so that it looks after all other cleanups. It kills what is
// left, so that it does not hold the output of "go test".
//
// It finds a daemon that was started with an environment of its own, or has overwritten it, only as long
// as its parent is this process; and of another user's processes only our children.
func NoLeakedProcesses(t testing.TB) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return
	}
	mark := fmt.Sprintf("%d-%d", os.Getpid(), runs.Add(1))
	restore := setenv(mark)
	before := make(map[process]bool)
	for _, p := range children() {
		before[p] = true
	}
	t.Cleanup(func() {
		t.Helper()
		restore()
		for _, p := range settle(mark, before) {
			state := "running"
			if p.zombie {
				state = "a zombie"
			}
			t.Errorf("safeexectest: process %d (%q) is left, %s", p.pid, p.name, state)
			p.kill(mark)
		}
	})
}

func setenv(mark string) (restore func()) {
	old, had := os.LookupEnv(markVariable)
	_ = os.Setenv(markVariable, mark)
	return func() {
		if had {
			_ = os.Setenv(markVariable, old)
		} else {
			_ = os.Unsetenv(markVariable)
		}
	}
}

// A process is named by its number and its start together.
type process struct {
	pid   int
	start uint64
}

// A leftover is a process that is left.
type leftover struct {
	process
	name   string
	zombie bool
}

// execTime is more than a process is without an environment while it executes another program.
const execTime = 100 * time.Millisecond

// settle looks until nothing is left or the time is over.
func settle(mark string, before map[process]bool) []leftover {
	begun := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, execTime) {
		var left []leftover
		list, unsure := candidates(mark)
		for _, p := range list {
			if !before[p.process] {
				left = append(left, p)
			}
		}
		took := time.Since(begun)
		if len(left) == 0 && (!unsure || took > execTime) || took > settleTime {
			return left
		}
		time.Sleep(pause)
	}
}

func children() []process {
	var list []process
	found, _ := candidates("")
	for _, p := range found {
		list = append(list, p.process)
	}
	return list
}

// candidates returns our children and the processes with the mark, and whether one born after us may have
// it: a process that is executing a program has no environment for a moment.
func candidates(mark string) (list []leftover, unsure bool) {
	self, err := procfs.ReadStatNoComm(procfs.Self)
	if err != nil {
		return nil, false
	}
	pids, _ := procfs.PIDs()
	for _, pid := range pids {
		st, err := procfs.ReadStat(pid)
		if err != nil || pid == self.PID || st.StartTime < self.StartTime {
			continue
		}
		if st.PPID != self.PID {
			value, answer, _ := procfs.ReadEnviron(pid, markVariable)
			unsure = unsure || answer == procfs.EnvironUnknown && !st.Dead()
			if mark == "" || value != mark {
				continue
			}
		}
		// As PID 1 we are given the zombies of others, which are not told apart from our own.
		if self.PID == 1 && st.Dead() {
			continue
		}
		list = append(list, leftover{process{pid, st.StartTime}, st.Comm, st.Dead()})
	}
	return list, unsure
}

func marked(pid int, mark string) bool {
	value, _, _ := procfs.ReadEnviron(pid, markVariable)
	return value == mark
}

// kill ends what is left. What pins the number is the handle that FindProcess opens, a pidfd where
// there are any, before the second look.
func (p leftover) kill(mark string) {
	handle, err := os.FindProcess(p.pid)
	if err != nil {
		return
	}
	defer func() { _ = handle.Release() }()
	st, err := procfs.ReadStat(p.pid)
	if err != nil || st.StartTime != p.start || st.PPID != os.Getpid() && !marked(p.pid, mark) {
		return
	}
	if err := handle.Kill(); err != nil {
		return
	}
	// A child of ours without a waiter would stay a zombie, and every later test would find it.
	if st.PPID == os.Getpid() {
		_, _ = handle.Wait()
	}
}
