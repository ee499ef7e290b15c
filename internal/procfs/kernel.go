package procfs

import "bytes"

// Loadavg is the part of /proc/loadavg that is about processes, see proc_loadavg(5).
type Loadavg struct {
	Running int // tasks that are runnable now
	Tasks   int // tasks (threads) in the system
	LastPID int // the PID given out last, in the PID namespace that /proc was mounted for
}

// ParseLoadavg parses /proc/loadavg. The line must be complete: a LastPID that lost its last digit
// would be a wrong end of the birth window.
func ParseLoadavg(data []byte) (Loadavg, error) {
	line, rest := cutLine(data)
	n := numbers{line: line}
	n.skip(3)
	running, tasks, ok := bytes.Cut(n.field(), []byte("/"))
	r, ok1 := parseUint(running, 10, 31)
	t, ok2 := parseUint(tasks, 10, 31)
	l := Loadavg{Running: int(r), Tasks: int(t), LastPID: int(n.uint(10, 31))}
	if n.bad || !ok || !ok1 || !ok2 || rest == nil || len(trimLeft(n.rest())) != 0 {
		return Loadavg{}, malformed("loadavg", "fields")
	}
	return l, nil
}

// ReadLoadavg reads /proc/loadavg without allocating. It does not check that the file is the
// kernel's: lxcfs may lay its own over it, where LastPID means something else.
func ReadLoadavg() (Loadavg, error) {
	var buf [128]byte
	f := file{name: "loadavg"}
	n, err := readOnce(f, buf[:])
	if err != nil {
		return Loadavg{}, err
	}
	l, err := ParseLoadavg(buf[:n])
	if err != nil {
		return Loadavg{}, f.fail("parse", err)
	}
	return l, nil
}

// KernelStat is the part of /proc/stat that is about processes, see proc_stat(5).
type KernelStat struct {
	Forks    uint64 // "processes": tasks created since boot, threads included, all PID namespaces
	BootTime uint64 // "btime": seconds since the epoch, as seen from the reader's time namespace
	System   uint64 // "cpu": what all processors spent in the kernel, interrupts included, in hundredths of a second
}

// ParseKernelStat parses /proc/stat. Both lines must be there and complete.
func ParseKernelStat(data []byte) (KernelStat, error) {
	var s KernelStat
	var forks, boot bool
	for len(data) > 0 && !(forks && boot) {
		line, rest := cutLine(data)
		if rest == nil {
			break // cut off
		}
		data = rest
		key, value := cutField(line)
		switch string(key) {
		case "cpu":
			n := numbers{line: value}
			n.skip(2) // user, nice
			s.System = n.uint(10, 63)
			n.skip(2) // idle, iowait
			s.System += n.uint(10, 63) + n.uint(10, 63)
			if n.bad {
				return KernelStat{}, malformed("stat", "cpu")
			}
		case "processes":
			s.Forks, forks = parseUint(trimLeft(value), 10, 64)
		case "btime":
			s.BootTime, boot = parseUint(trimLeft(value), 10, 64)
		}
	}
	if !forks || !boot {
		return KernelStat{}, malformed("stat", "processes or btime")
	}
	return s, nil
}

// kernelStatLimit allows for thousands of processors and interrupts.
const kernelStatLimit = 8 << 20

// ReadKernelStat reads /proc/stat. The kernel sums up every interrupt of every processor for it,
// which takes tens of microseconds on a small machine and milliseconds on a large one.
func ReadKernelStat() (KernelStat, error) {
	return parseFile(file{name: "stat"}, kernelStatLimit, ParseKernelStat)
}

// ReadBootID reads /proc/sys/kernel/random/boot_id, a UUID that the kernel makes when it boots.
func ReadBootID() (string, error) {
	var buf [64]byte
	f := file{name: "sys/kernel/random/boot_id"}
	n, err := readOnce(f, buf[:])
	if err != nil {
		return "", err
	}
	id, rest := cutLine(buf[:n])
	if rest == nil || len(id) == 0 {
		return "", malformed("boot_id", "line")
	}
	return string(id), nil
}
