package procfs

import (
	"io/fs"
	"slices"
)

// PIDs returns the processes that /proc lists, in ascending order. See proc(5).
//
// The list is not atomic: a process that was born or ended meanwhile may be in it or not, and one
// that forks faster than we read can stay ahead of us. Under hidepid=2 other users' processes are
// missing without any sign. The buffer is bounded, the result is at most pid_max numbers. A list
// that broke off is returned with its error.
func PIDs() ([]int, error) { return AppendPIDs(nil) }

// AppendPIDs is [PIDs] into the caller's memory, for repeated lists. It sorts only what it appends.
func AppendPIDs(dst []int) ([]int, error) { return appendNumbers(dst, file{name: ""}) }

// Threads returns the thread IDs of a process in ascending order, from /proc/PID/task. The leader
// is among them even after it has exited, until the last thread has. See proc_pid_task(5).
func Threads(pid int) ([]int, error) {
	f := file{place: inProcess, pid: pid, name: "task"}
	tids, err := appendNumbers(nil, f)
	if err == nil && len(tids) == 0 { // the last one was released between open and getdents
		err = f.fail("getdents", fs.ErrNotExist)
	}
	return tids, err
}

// LiveThread returns a thread of a process that has not exited: the leader, or if it has, the first
// other. The files of a leader that exited are empty while its threads live on; read those of this thread
// instead. If no thread lives the error matches fs.ErrNotExist, also for a zombie.
func LiveThread(pid int) (int, error) {
	s, err := ReadStatNoComm(pid)
	if err != nil {
		return 0, err
	}
	if !s.Dead() {
		return s.PID, nil
	}
	tids, err := Threads(pid)
	if err != nil {
		return 0, err
	}
	for _, tid := range tids {
		if s, err := ReadThreadStat(pid, tid); err == nil && !s.Dead() {
			return tid, nil
		}
	}
	return 0, file{place: inProcess, pid: pid, name: "task"}.fail("list", fs.ErrNotExist)
}

func appendNumbers(dst []int, f file) ([]int, error) {
	d, err := openDirectory(f)
	if err != nil {
		return dst, err
	}
	defer d.close()
	first := len(dst)
	err = d.numbers(func(n int) bool {
		dst = append(dst, n)
		return true
	})
	return dst[:first+len(ascending(dst[first:]))], err
}

// ascending sorts in place and drops what comes twice. The kernel lists processes in order but
// threads in the order of its own list, and a second getdents may repeat an entry where that list
// changed under it.
func ascending(ns []int) []int {
	slices.Sort(ns)
	return slices.Compact(ns)
}

// entryNumber takes only what the kernel itself would print: "self", "007" and "0x7" are no PIDs.
func entryNumber(name []byte) (int, bool) {
	if len(name) > 1 && name[0] == '0' {
		return 0, false
	}
	n, ok := parseUint(name, 10, 31)
	return int(n), ok
}
