package procfs

import "bytes"

// A Usage is what a process uses, of its /proc/PID/stat.
type Usage struct {
	CPU       uint64 // clock ticks, with the children that it has waited for
	Pages     uint64 // in memory
	StartTime uint64 // as Stat.StartTime
}

// ParseUsage parses a /proc/PID/stat.
func ParseUsage(data []byte) (Usage, error) {
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	number := func(field int) (n uint64, ok bool) { // as proc_pid_stat(5) counts them, the first two are before ')'
		if field -= 3; field >= len(fields) {
			return 0, false
		}
		return parseUint(fields[field], 10, 64)
	}
	var u Usage
	for field := 14; field <= 17; field++ {
		n, ok := number(field)
		if !ok {
			return Usage{}, malformed("stat", "time")
		}
		u.CPU += n
	}
	var started, resident bool
	u.StartTime, started = number(22)
	u.Pages, resident = number(24)
	if !started || !resident {
		return Usage{}, malformed("stat", "starttime or rss")
	}
	return u, nil
}

// ReadUsage reads what a process uses. The caller compares the start time.
func ReadUsage(pid int) (Usage, error) {
	return parseFile(file{pid: pid, place: inProcess, name: "stat"}, statSize, ParseUsage)
}
