// Package sys is the only gate to the kernel: one verb per function, EINTR handled here, errors
// that name the call. Nothing else in the module imports golang.org/x/sys/unix.
//
// What each call needs, and what stands in where it is missing:
//
//	call                      since   without it
//	pidfd_open                5.3     [WaitExit]: a thread in waitid(WNOWAIT)
//	pidfd_send_signal         5.1     kill, after the start time was compared
//	epoll                     2.6     package poll's portable poller
//	F_SETPIPE_SZ              2.6.35  pipes keep their 64 KiB
//	close_range(CLOEXEC)      5.11    one fcntl for each descriptor that is open
//	sched_setattr, fair slice 6.12    the limit mark alone, see package proctree
//	statx(DONT_SYNC)          4.11    fstat, which waits for the server of a file system
//	prlimit                   2.6.36  the slice and the environment mark alone
//	cgroup.kill               5.14    cgroup.freeze (5.2), and SIGKILL one by one
//	openat2(RESOLVE_CACHED)   5.12    a goroutine that looks before each start
//
// Missing means ENOSYS, or EPERM and EACCES from a seccomp filter; a feature is probed by its
// use, never by a version number.
package sys

import (
	"strings"
	"sync/atomic"
)

// A Feature is a fast path that has a fallback and that tests can force off.
type Feature uint32

// The features, by the names that [Disable] takes.
const (
	Pidfd       Feature = 1 << iota // "pidfd": pidfd_open, pidfd_send_signal and polling pidfds
	Epoll                           // "epoll": the epoll poller
	Loadavg                         // "loadavg": the last PID given out, from /proc/loadavg
	CloseRange                      // "close_range": marking all descriptors in one call
	CgroupKill                      // "cgroup_kill": killing a cgroup in one write
	SliceMark                       // "slice": the slice that marks what a start makes
	LimitMark                       // "limitmark": the limit that marks the processes of a tree
	EnvironMark                     // "environmark": the variable that marks them
	Cached                          // "cached": looking at files without waiting, by openat2
	Sweep                           // "sweep": looking for the processes of a tree at all
	Lending                         // "lending": a pipe may be lent to the goroutine of a Reader or Writer
)

var names = map[string]Feature{
	"pidfd":       Pidfd,
	"epoll":       Epoll,
	"loadavg":     Loadavg,
	"close_range": CloseRange,
	"cgroup_kill": CgroupKill,
	"slice":       SliceMark,
	"cached":      Cached,
	"lending":     Lending,
}

// shares are no fast paths: without them a promise is not kept. They are forced off to show what they
// cost, and that the tests see it.
var shares = map[string]Feature{
	"limitmark":   LimitMark,
	"environmark": EnvironMark,
	"sweep":       Sweep,
}

// disabled holds the features that tests forced off. It is written before the first run only.
var disabled atomic.Uint32

// Disable forces fast paths off for the life of the process, so that the same tests run on the
// fallbacks. It reports the first name that it does not know. Tests call it from TestMain; nothing
// else does.
func Disable(features ...string) (unknown string) {
	for _, name := range features {
		f, ok := names[strings.TrimSpace(name)]
		if !ok {
			f, ok = shares[strings.TrimSpace(name)]
		}
		if !ok {
			return name
		}
		disabled.Or(uint32(f))
	}
	return ""
}

// Enabled reports whether f has not been forced off. It does not say that the kernel has it.
func Enabled(f Feature) bool { return disabled.Load()&uint32(f) == 0 }
