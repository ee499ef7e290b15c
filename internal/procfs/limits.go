package procfs

import "bytes"

// Unlimited is RLIM_INFINITY.
const Unlimited = ^uint64(0)

// LimitRTTime is the name of RLIMIT_RTTIME in /proc/PID/limits, see getrlimit(2).
const LimitRTTime = "Max realtime timeout"

// Limit is one row of /proc/PID/limits, see proc_pid_limits(5).
type Limit struct {
	Name string // as printed: "Max open files"
	Soft uint64 // Unlimited where it says so
	Hard uint64
}

// limitName is the width of the first column. Names hold blanks, so only the width ends them.
const limitName = 25

// parseLimit parses a row; the name is a part of line.
func parseLimit(line []byte) (name []byte, soft, hard uint64, ok bool) {
	if len(line) <= limitName || line[limitName] != ' ' {
		return nil, 0, 0, false
	}
	name = bytes.TrimRight(line[:limitName], " ")
	n := numbers{line: line[limitName:]}
	soft, hard = n.limit(), n.limit()
	return name, soft, hard, len(name) > 0 && !n.bad
}

func (n *numbers) limit() uint64 {
	f := n.field()
	if string(f) == "unlimited" {
		return Unlimited
	}
	v, ok := parseUint(f, 10, 64)
	n.bad = n.bad || !ok
	return v
}

// ParseLimits parses /proc/PID/limits. Rows that parse are returned even with an error.
func ParseLimits(data []byte) ([]Limit, error) {
	if line, rest := cutLine(data); bytes.HasPrefix(line, []byte("Limit ")) {
		data = rest
	}
	limits, err := parseRows("limits", data, func(line []byte) (Limit, error) {
		name, soft, hard, ok := parseLimit(line)
		if !ok {
			return Limit{}, malformed("limits", "row")
		}
		return Limit{Name: string(name), Soft: soft, Hard: hard}, nil
	})
	if err == nil && len(limits) == 0 {
		err = malformed("limits", "no rows")
	}
	return limits, err
}

// LookupLimit finds one row of /proc/PID/limits by its name, without allocating. A row that is
// missing, malformed or cut off is not found.
func LookupLimit(data []byte, name string) (soft, hard uint64, ok bool) {
	for {
		line, rest := cutLine(data)
		if rest == nil {
			return 0, 0, false
		}
		data = rest
		if row, soft, hard, ok := parseLimit(line); ok && string(row) == name {
			return soft, hard, true
		}
	}
}

// limitsSize holds the 17 rows of 80 bytes that there are, and as many again.
const limitsSize = 3 << 10

// ReadLimit reads one limit of a process, without allocating. Unlike prlimit(2), which wants the same
// user, every user may read the file: that is what ReadLimit is for.
func ReadLimit(pid int, name string) (soft, hard uint64, err error) {
	var buf [limitsSize]byte
	f := file{place: inProcess, pid: pid, name: "limits"}
	n, err := readOnce(f, buf[:])
	if err != nil {
		return 0, 0, err
	}
	soft, hard, ok := LookupLimit(buf[:n], name)
	if !ok {
		return 0, 0, f.fail("parse", malformed("limits", "row not found"))
	}
	return soft, hard, nil
}

// ReadLimits reads all limits of a process.
func ReadLimits(pid int) ([]Limit, error) {
	return parseFile(file{place: inProcess, pid: pid, name: "limits"}, 64<<10, ParseLimits)
}
