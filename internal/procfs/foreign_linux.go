package procfs

import (
	"sync/atomic"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// Foreign reports whether /proc shows another PID namespace than that of the calling thread: it was mounted for
// one, proc(5), as after `unshare --pid` without --mount-proc, or belongs to the thread's own mount namespace.
// Every number in there means another process than it means to a system call. Where there is no /proc it is not
// foreign.
func Foreign() bool {
	pid, err := ownLink()
	if err != nil {
		// The link is there and names no process: this process has no number in that namespace.
		_, err := ReadLoadavg()
		return err == nil
	}
	return pid != 0 && (pid != syscall.Getpid() || namesake())
}

// Absent reports whether there is no /proc.
func Absent() bool {
	if _, err := ownLink(); !isNotExist(err) {
		return false
	}
	_, err := ReadLoadavg()
	return isNotExist(err)
}

// ownLink returns the number that /proc/self names, 0 if it is something else.
func ownLink() (int, error) {
	path := [...]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', 0}
	var link [20]byte
	n, err := sys.ReadlinkBytes(atCWD, path[:], link[:])
	if err != nil {
		return 0, err
	}
	pid, _ := parseUint(link[:n], 10, 31)
	return int(pid), nil
}

// A mount is what tells one /proc from another that is there later.
type mount struct {
	dev  uint64
	made syscall.Timespec
}

// native is the last /proc that was found to show our PID namespace.
var native atomic.Pointer[mount]

// namesake reports whether /proc, in which this process has its own number, shows another PID namespace all the same.
// NSpid has the numbers in all of them from that of /proc to that of the process, proc_pid_status(5): in its own
// there is one. That is read once for each /proc, since it takes longer than a look at a small tree.
func namesake() bool {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc", &st); err != nil {
		return false
	}
	now := mount{dev: uint64(st.Dev), made: st.Ctim} //nolint:unconvert // 32 bits on some platforms
	if known := native.Load(); known != nil && *known == now {
		return false
	}
	s, err := ReadStatus(Self)
	if err != nil { // for want of a descriptor, perhaps
		return false
	}
	if len(s.NSPID) > 1 {
		return true
	}
	native.Store(&now)
	return false
}
