package proctree

import (
	"errors"
	"io/fs"
	"os"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// A Holder is a process that has a pipe open.
type Holder struct {
	Process
	FDs []int
	// Starting says that it is a child of ours on its way from fork to exec, where it will lose what
	// is close-on-exec, as our pipes are.
	Starting bool
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
		lost := true
		_ = procfs.WalkThreadFDs(pid, tid, func(fd int, link []byte) bool {
			if ino, ok := procfs.PipeInode(link); ok && ino == inode {
				// One that can not be asked counts; one that is gone by now does not.
				info, err := procfs.ReadThreadFDInfo(pid, tid, fd)
				if err == nil && info.CanWrite() || err != nil && !errors.Is(err, fs.ErrNotExist) {
					fds = append(fds, fd)
					lost = lost && err == nil && info.CloseOnExec()
				}
			}
			return true
		})
		if fds == nil {
			continue
		}
		st, err := procfs.ReadStat(pid)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		holders = append(holders, Holder{
			Process:  Process{PID: pid, Start: st.StartTime, Name: st.Comm},
			FDs:      fds,
			Starting: lost && st.PPID == os.Getpid(),
		})
	}
	return holders
}

// Alive reports whether p is still there, and no zombie. What can not be read counts as alive.
func (p Process) Alive() bool {
	st, err := procfs.ReadStat(p.PID)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return st.Alive() && st.StartTime == p.Start
}
