package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A Witness proves that a tree of real programs is gone. Daemons close descriptors that they do not
// know, which fools a [Canary]; but whatever they do, they keep a soft limit that the kernel has not
// looked at since Linux 2.4.25 (getrlimit(2), RLIMIT_LOCKS), and anybody may read it.
type Witness struct{ mark uint64 }

var witnesses atomic.Uint64

// NewWitness changes cmd, so that whatever descends from it bears a mark. It skips the test where
// there is no prlimit(1). When the test ends, those who bear it are killed.
func NewWitness(t testing.TB, cmd *exec.Cmd) *Witness {
	t.Helper()
	prlimit := HasProgram(t, "prlimit")
	if cmd.Err != nil {
		t.Fatal(cmd.Err)
	}
	w := &Witness{uint64(os.Getpid())<<20 | witnesses.Add(1)}
	cmd.Args = append([]string{prlimit, fmt.Sprintf("--locks=%d:", w.mark), cmd.Path}, cmd.Args[1:]...)
	cmd.Path = prlimit
	t.Cleanup(func() { w.kill(t) })
	return w
}

// Alive returns who bears the mark and has not exited.
func (w *Witness) Alive() []string {
	var list []string
	for _, p := range w.living() {
		list = append(list, p.String())
	}
	return list
}

func (w *Witness) living() []process {
	var list []process
	for _, pid := range pids() {
		if !w.marked(pid) {
			continue
		}
		if p, err := readProcess(pid); err == nil && p.state != 'Z' && p.state != 'X' {
			list = append(list, p)
		}
	}
	return list
}

// marked reads the soft limit, which a zombie has still.
func (w *Witness) marked(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil {
		return false
	}
	_, rest, found := strings.Cut(string(text), "\nMax file locks ")
	fields := strings.Fields(rest)
	return found && len(fields) > 0 && fields[0] == strconv.FormatUint(w.mark, 10)
}

// kill ends who is left. What pins a number is the handle, opened before the second look at the mark.
func (w *Witness) kill(t testing.TB) {
	if !poll(t, func() bool {
		list := w.living()
		for _, p := range list {
			proc, err := os.FindProcess(p.pid)
			if err != nil {
				continue
			}
			if w.marked(p.pid) {
				proc.Signal(syscall.SIGKILL)
			}
			proc.Release()
		}
		return len(list) == 0
	}) {
		t.Errorf("could not be killed: %v", w.Alive())
	}
}
