package procfs

import (
	"bytes"
	"time"
)

// ParseSched finds in /proc/PID/sched when a thread last ran, or was last seen running, on the
// scheduler's clock. That clock is only good for comparing two threads, such as another and our own,
// see [ReadSinceRun]. The name that the thread chose stands in the first line and may hold a newline,
// but is too short to forge the one looked for.
func ParseSched(data []byte) (time.Duration, error) {
	for len(data) > 0 {
		line, rest := cutLine(data)
		if rest == nil {
			break // cut off
		}
		data = rest
		key, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || string(bytes.TrimRight(key, " ")) != "se.exec_start" {
			continue
		}
		whole, fraction, _ := bytes.Cut(bytes.TrimSpace(value), []byte(".")) // milliseconds
		ms, ok1 := parseUint(whole, 10, 40)
		ns, ok2 := parseUint(fraction, 10, 20)
		if !ok1 || !ok2 || len(fraction) != 6 {
			return 0, malformed("sched", "exec_start")
		}
		return time.Duration(ms)*time.Millisecond + time.Duration(ns), nil
	}
	return 0, malformed("sched", "no exec_start")
}

const schedLimit = 64 << 10

// ReadSched reads /proc/PID/task/TID/sched, which needs no permission and a kernel with
// CONFIG_SCHED_DEBUG.
func ReadSched(pid, tid int) (time.Duration, error) {
	return parseFile(file{place: inThread, pid: pid, tid: tid, name: "sched"}, schedLimit, ParseSched)
}

// ReadOwnSched is [ReadSched] for the thread that calls it: the present.
func ReadOwnSched() (time.Duration, error) {
	return parseFile(file{name: "thread-self/sched"}, schedLimit, ParseSched)
}
