package main

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// memory is what the kernel says of this process.
type memory struct {
	RSS, Peak int64 // bytes
	Threads   int
	FDs       int
}

func ownMemory() memory {
	var m memory
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		fields := strings.Fields(value)
		if len(fields) == 0 {
			continue
		}
		n, _ := strconv.ParseInt(fields[0], 10, 64)
		switch name {
		case "VmRSS":
			m.RSS = n << 10
		case "VmHWM":
			m.Peak = n << 10
		case "Threads":
			m.Threads = int(n)
		}
	}
	if fds, err := os.ReadDir("/proc/self/fd"); err == nil {
		m.FDs = len(fds) - 1 // the one that reads
	}
	return m
}

// resetPeak makes the peak of the memory start again (proc_pid_clear_refs(5)).
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// A child is a process whose parent is this one.
type child struct {
	pid   int
	name  string
	state byte
}

// children lists them, zombies included. It is asked again and again while the memory of this process is
// measured, and leaves next to no garbage behind.
func children() []child {
	self := []byte(strconv.Itoa(os.Getpid()))
	names, _ := readNames("/proc")
	var found []child
	var buf [1024]byte
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		stat := buf[:readStart("/proc/"+name+"/stat", buf[:])]
		open, end := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if open < 0 || end < open || len(stat) < end+4 {
			continue
		}
		parent, _, _ := bytes.Cut(stat[end+4:], []byte(" ")) // behind ") S "
		if bytes.Equal(parent, self) {
			found = append(found, child{pid, string(stat[open+1 : end]), stat[end+2]})
		}
	}
	return found
}

// readStart reads what one read gives, and returns how much that is: nothing where there is an error.
func readStart(path string, buf []byte) int {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, _ := unix.Read(fd, buf)
	return max(n, 0)
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.Readdirnames(-1)
}

// killSleepers kills children that are sleepers. An unreaped child keeps its number, so none of
// them is another process's; call it only when no run ends by itself, since a run may reap one at this
// moment.
func killSleepers() {
	name := sleeperName()
	for _, c := range children() {
		if c.name == name && c.state != 'Z' {
			_ = syscall.Kill(c.pid, syscall.SIGKILL)
		}
	}
}

func sleeperName() string {
	path := sleeper(1)[0]
	return path[strings.LastIndexByte(path, '/')+1:]
}

// adopting calls f and becomes the parent of what f leaves behind, which is then ended and reaped:
// PID 1 does not everywhere. No command of this process may be running meanwhile but f's.
func adopting(f func() error) error {
	before := map[int]bool{}
	for _, c := range children() {
		before[c.pid] = true
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
	err := f()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		left := 0
		for _, c := range children() {
			if before[c.pid] {
				continue
			}
			left++
			_ = syscall.Kill(c.pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil)
		}
		if left == 0 {
			break
		}
	}
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	return err
}
