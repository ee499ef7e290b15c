package procfs

import "slices"

// ParseChildren parses /proc/PID/task/TID/children: PIDs, each followed by a blank, see
// proc_tid_children(5). A last number without its blank was cut off; it is not among those
// returned with ErrSyntax.
func ParseChildren(data []byte) ([]int, error) {
	end := len(data)
	for end > 0 && data[end-1] != ' ' && data[end-1] != '\n' {
		end--
	}
	pids, ok := parsePIDs(data[:end])
	if !ok || end < len(data) {
		return pids, malformed("children", "pid")
	}
	return pids, nil
}

// parsePIDs parses PIDs that are separated by blanks, up to the first that is none.
func parsePIDs(b []byte) ([]int, bool) {
	var pids []int
	for {
		var field []byte
		if field, b = cutField(b); len(field) == 0 {
			return pids, true
		}
		pid, ok := parseUint(field, 10, 31)
		if !ok {
			return pids, false
		}
		pids = append(pids, int(pid))
	}
}

const childrenLimit = 1 << 20

// ReadChildren reads the children of one thread, in the order of their birth. Children belong to
// the thread that made them, and pass to another thread of the process when it exits, so all
// threads must be asked: see [Children].
//
// The kernel promises a complete list only while the children are stopped: where one is reaped
// during the read, others may be left out. The file needs CONFIG_PROC_CHILDREN; without it the
// error matches fs.ErrNotExist.
func ReadChildren(pid, tid int) ([]int, error) {
	return parseFile(file{place: inThread, pid: pid, tid: tid, name: "children"}, childrenLimit, ParseChildren)
}

// Children returns the children of all threads of a process in ascending order, within the limits
// of [ReadChildren]. What was found before an error is returned with it. A thread that ends
// meanwhile is no error, as long as there is another.
func Children(pid int) ([]int, error) {
	tids, err := Threads(pid)
	var all []int
	var gone error
	read := 0
	for _, tid := range tids {
		pids, e := ReadChildren(pid, tid)
		all = append(all, pids...)
		switch {
		case e == nil:
			read++
		case isNotExist(e):
			gone = e
		case err == nil:
			err = e
		}
	}
	if err == nil && read == 0 {
		err = gone
	}
	slices.Sort(all)
	return slices.Compact(all), err
}
