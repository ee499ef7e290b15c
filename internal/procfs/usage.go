package procfs

import "bytes"

// A Usage is what a process uses, of its /proc/PID/stat.
type Usage struct {
	User, System uint64 // clock ticks, with the children that it has waited for
	Pages        uint64 // in memory
	StartTime    uint64 // as Stat.StartTime
}

// CPU is the processor time in clock ticks.
func (u Usage) CPU() uint64 { return u.User + u.System }

// ParseUsage parses a /proc/PID/stat.
func ParseUsage(data []byte) (Usage, error) {
	n := numbers{line: data[bytes.LastIndexByte(data, ')')+1:]}
	n.skip(11) // state to cmajflt
	var u Usage
	u.User, u.System = n.uint(10, 64), n.uint(10, 64) // utime, stime
	u.User += n.uint(10, 64)                          // cutime
	u.System += n.uint(10, 64)                        // cstime
	n.skip(4)                                         // priority to itrealvalue
	u.StartTime = n.uint(10, 64)
	n.skip(1) // vsize
	u.Pages = n.uint(10, 64)
	if n.bad {
		return Usage{}, malformed("stat", "times, starttime or rss")
	}
	return u, nil
}

// ReadUsage reads what a process uses. The caller compares the start time.
func ReadUsage(pid int) (Usage, error) {
	return parseFile(file{pid: pid, place: inProcess, name: "stat"}, statSize, ParseUsage)
}

// ParsePeak parses VmHWM of a /proc/PID/status, the most that its process had in memory, in bytes. It is 0 for a
// process without memory: a zombie, or a thread of the kernel.
func ParsePeak(data []byte) (int64, error) {
	for len(data) > 0 {
		var line []byte
		line, data = cutLine(data)
		value, ok := bytes.CutPrefix(line, []byte("VmHWM:"))
		if !ok {
			continue
		}
		n := numbers{line: value}
		kib := n.uint(10, 50)
		if n.bad || string(n.field()) != "kB" {
			return 0, malformed("status", "VmHWM")
		}
		return int64(kib) << 10, nil
	}
	return 0, nil
}

// ReadPeak reads the most that a process had in memory. No lock of the process's is waited for.
func ReadPeak(pid int) (int64, error) {
	return parseFile(file{pid: pid, place: inProcess, name: "status"}, statusLimit, ParsePeak)
}
