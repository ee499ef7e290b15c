package testproc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A process is a line of ps.
type process struct {
	pid, ppid int
	comm      string
	state     byte   // as in proc_pid_stat(5), but 'z' while the first thread alone has exited
	start     uint64 // start time in clock ticks since boot, which tells a reused PID apart
	execs     bool   // has its new memory, and not yet what goes there
}

func (p process) String() string {
	return fmt.Sprintf("%d (%s) state %c", p.pid, p.comm, p.state)
}

// readProcess reads /proc/PID/stat. The name may hold anything, hence the last parenthesis.
func readProcess(pid int) (process, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	stat := string(data)
	open, last := strings.IndexByte(stat, '('), strings.LastIndexByte(stat, ')')
	if open < 0 || last < open {
		return process{}, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	fields := strings.Fields(stat[last+1:])
	if len(fields) < 24 {
		return process{}, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	ppid, err1 := strconv.Atoi(fields[1])
	state := fields[0][0]
	if state == 'Z' && fields[17] != "0" && fields[17] != "1" { // threads; they are counted down in the midst of an exit
		state = 'z'
	}
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	execs := fields[20] != "0" && fields[23] == "0" // vsize, startcode
	return process{pid, ppid, stat[open+1 : last], state, start, execs}, errors.Join(err1, err2)
}

// pids lists the processes in /proc.
func pids() []int {
	entries, _ := os.ReadDir("/proc")
	var list []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	return list
}

// State returns the state of the process as in ps: 'R', 'S', 'D', 'T', 'Z' and so on, 'z' for one whose first
// thread alone has exited, which nobody can wait for yet; 0 if there is no such process.
func State(pid int) byte {
	p, err := readProcess(pid)
	if err != nil {
		return 0
	}
	return p.state
}

// WaitState waits until the state of the process is one of those given, and fails the test at its
// deadline. It is for what has no handshake: WaitState(t, pid, "T") for a process that stops itself.
func WaitState(t testing.TB, pid int, states string) {
	t.Helper()
	if !poll(t, func() bool { return strings.IndexByte(states, State(pid)) >= 0 }) {
		p, err := readProcess(pid)
		t.Fatalf("process %d is not in a state of %q: %v, %v", pid, states, p, err)
	}
}

// WaitComm waits until the process bears the name, which it does from exec on, and until exec is over: before that
// its environment is not there. It fails the test at its deadline.
func WaitComm(t testing.TB, pid int, name string) {
	t.Helper()
	var p process
	var err error
	if !poll(t, func() bool { p, err = readProcess(pid); return err != nil || p.comm == name && !p.execs }) {
		t.Fatalf("process %d is not called %q: %v", pid, name, p)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Dead reports whether the process runs no more: there is none of that number, or a zombie. A number
// may have been given to a stranger; a Canary cannot be fooled by that.
func Dead(pid int) bool {
	state := State(pid)
	return state == 0 || state == 'Z' || state == 'X'
}

// Lives reports whether the process of that number and start time, in clock ticks since boot, runs.
func Lives(pid int, start uint64) bool {
	p, err := readProcess(pid)
	return err == nil && p.start == start && p.state != 'Z' && p.state != 'X'
}

// descendants describes those of this process, for a test that waits in vain: with the function of the kernel that
// each sleeps in.
func descendants() (list []string) {
	below := map[int]bool{os.Getpid(): true}
	for again := true; again; {
		again = false
		for _, pid := range pids() {
			if p, err := readProcess(pid); err == nil && below[p.ppid] && !below[pid] {
				below[pid], again = true, true
				wchan, _ := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
				list = append(list, fmt.Sprintf("%v child of %d in %s", p, p.ppid, wchan))
			}
		}
	}
	return list
}

// signalMask returns a set of signals of /proc/PID/status: SigPnd, SigIgn … of the first thread.
func signalMask(pid int, name string) uint64 {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			mask, _ := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return mask
		}
	}
	return 0
}

// holders returns the processes other than this one that have the file open for which /proc shows the
// target. Another user's are not seen by an ordinary user.
func holders(target string) []process {
	var list []process
	for _, pid := range pids() {
		if pid != os.Getpid() && holds(pid, target) {
			if p, err := readProcess(pid); err == nil {
				list = append(list, p)
			}
		}
	}
	return list
}

// holds reports whether pid has the file open to keep. What is close-on-exec does not count: a child
// that another test starts at this moment has a copy of everything between its fork and its exec.
func holds(pid int, target string) bool {
	return has(pid, target, func(fdinfo string) bool { return !closeOnExec(fdinfo) })
}

// aboutToExec reports whether a process other than this one has the file open until its exec.
func aboutToExec(target string) bool {
	return slices.ContainsFunc(pids(), func(pid int) bool { return pid != os.Getpid() && has(pid, target, closeOnExec) })
}

// has reports whether pid has the file open under a descriptor of the kind.
func has(pid int, target string, kind func(fdinfo string) bool) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	entries, _ := os.ReadDir(dir + "fd")
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		link, err := os.Readlink(dir + "fd/" + e.Name())
		return err == nil && link == target && kind(dir+"fdinfo/"+e.Name())
	})
}

// closeOnExec reads the flags of a descriptor, in octal, from its fdinfo (proc_pid_fdinfo(5)).
func closeOnExec(fdinfo string) bool {
	text, err := os.ReadFile(fdinfo)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) // closed by now
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, _ := strconv.ParseUint(strings.TrimSpace(value), 8, 64)
			return flags&syscall.O_CLOEXEC != 0
		}
	}
	return false
}
