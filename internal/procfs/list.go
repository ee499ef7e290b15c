package procfs

import "slices"

// PIDs returns the processes that /proc lists, in ascending order. See proc(5).
//
// The list is not atomic: a process that was born or ended meanwhile may be in it or not, and one
// that forks faster than we read can stay ahead of us. Under hidepid=2 other users' processes are
// missing without any sign. The buffer is bounded, the result is at most pid_max numbers. A list
// that broke off is returned with its error.
func PIDs() ([]int, error) { return AppendPIDs(nil) }

// AppendPIDs is [PIDs] into memory of the caller's, for those who list again and again. It sorts
// only what it appends.
func AppendPIDs(dst []int) ([]int, error) { return appendNumbers(dst, file{name: ""}) }

// Threads returns the thread IDs of a process in ascending order, from /proc/PID/task. The leader
// is among them even after it has exited, until the last thread has. See proc_pid_task(5).
func Threads(pid int) ([]int, error) {
	return appendNumbers(nil, file{place: inProcess, pid: pid, name: "task"})
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
	// The kernel lists processes in order but threads in the order of its own list; and a second
	// getdents may repeat an entry where the list changed under it.
	slices.Sort(dst[first:])
	return dst[:first+len(slices.Compact(dst[first:]))], err
}

// entryNumber takes only what the kernel itself would print: "self", "007" and "0x7" are no PIDs.
func entryNumber(name []byte) (int, bool) {
	if len(name) > 1 && name[0] == '0' {
		return 0, false
	}
	n, ok := parseUint(name, 10, 31)
	return int(n), ok
}
