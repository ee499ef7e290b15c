package sys

import "golang.org/x/sys/unix"

// A Resource is what a limit limits, see getrlimit(2).
type Resource int

// The resources.
const (
	ResourceCPU          Resource = unix.RLIMIT_CPU
	ResourceAddressSpace Resource = unix.RLIMIT_AS
	ResourceOpenFiles    Resource = unix.RLIMIT_NOFILE
	ResourceProcesses    Resource = unix.RLIMIT_NPROC
	ResourceFileSize     Resource = unix.RLIMIT_FSIZE
	ResourceCore         Resource = unix.RLIMIT_CORE
)

// SetLimit sets the soft and the hard limit of a process, which something must pin (prlimit(2)).
func SetLimit(pid int, r Resource, n uint64) error {
	limit := unix.Rlimit{Cur: n, Max: n}
	return unix.Prlimit(pid, int(r), &limit, nil)
}

// SetNice sets the nice value of a process that has one thread (setpriority(2)).
func SetNice(pid, nice int) error { return unix.Setpriority(unix.PRIO_PROCESS, pid, nice) }

// OpenFilesMax returns how many descriptors this process may have open, 0 if it cannot be told.
func OpenFilesMax() int {
	var limit unix.Rlimit
	if prlimit(0, unix.RLIMIT_NOFILE, nil, &limit) != nil {
		return 0
	}
	return int(min(limit.Cur, 1<<20))
}
