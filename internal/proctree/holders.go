package proctree

import "github.com/seed841d8200/safeexec/internal/procfs"

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
		// A first thread that has exited shows no descriptors while the others still have them.
		tid, err := procfs.LiveThread(pid)
		if err != nil {
			continue
		}
		var fds []int
		_ = procfs.WalkThreadFDs(pid, tid, func(fd int, link []byte) bool {
			if ino, ok := procfs.PipeInode(link); ok && ino == inode && writable(pid, tid, fd) {
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

// writable reports whether a descriptor can be written to. One that can not be asked counts.
func writable(pid, tid, fd int) bool {
	info, err := procfs.ReadThreadFDInfo(pid, tid, fd)
	return err != nil || info.CanWrite()
}
