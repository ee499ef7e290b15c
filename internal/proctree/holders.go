package proctree

import (
	"os"
	"strconv"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// A Holder is a process that has a pipe open.
type Holder struct {
	Process
	FDs []int
}

// Holders returns the processes that hold the pipe with the given inode for writing, ourselves
// included. Processes whose descriptors we may not see are left out.
func Holders(inode uint64) []Holder {
	if inode == 0 {
		return nil
	}
	pids, err := procfs.PIDs()
	if err != nil {
		return nil
	}
	var holders []Holder
	for _, pid := range pids {
		var fds []int
		_ = procfs.WalkFDs(pid, func(fd int, link []byte) bool {
			if ino, ok := procfs.PipeInode(link); ok && ino == inode && writable(pid, fd) {
				fds = append(fds, fd)
			}
			return true
		})
		if fds != nil {
			holders = append(holders, Holder{Process: Inspect(pid), FDs: fds})
		}
	}
	return holders
}

// writable reports whether a descriptor was opened for writing: the mode of its link in /proc/PID/fd
// says so, proc_pid_fd(5). One that can not be asked counts.
func writable(pid, fd int) bool {
	st, err := os.Lstat("/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd))
	return err != nil || st.Mode().Perm()&0o200 != 0
}
