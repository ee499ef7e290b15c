package fdtable

import (
	"errors"
	"io/fs"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// An end is one process's hold on a pipe.
type end struct {
	pid         int
	fd          int
	read, write bool
}

// findPeers names the processes at the other end of each pipe of the list, ourselves included: a
// service that holds the reading end of its own standard error will fill it and wait for itself.
// One pass over all processes serves all pipes. The path identifies a FIFO.
func findPeers(list []FD) {
	ends := make(map[string][]end)
	for i := range list {
		if list[i].Pipe != nil && list[i].Target != "" {
			ends[list[i].Target] = nil
		}
	}
	if len(ends) == 0 {
		return
	}
	unseen := collectEnds(ends)
	for i := range list {
		d := &list[i]
		if d.Pipe == nil {
			continue
		}
		d.Pipe.Unseen = unseen
		self := procfsPID()
		var peers []proctree.Holder
		for _, e := range ends[d.Target] {
			if e.pid == self && e.fd == d.Num || !(d.Write && e.read || d.Read && e.write) {
				continue
			}
			if last := len(peers) - 1; last >= 0 && peers[last].PID == e.pid {
				peers[last].FDs = append(peers[last].FDs, e.fd)
				continue
			}
			peers = append(peers, proctree.Holder{Process: proctree.Inspect(e.pid), FDs: []int{e.fd}})
		}
		d.Pipe.Peers = peers
	}
}

// collectEnds fills in the holders of each end, in the order of PIDs, and returns how many processes it
// could not read.
func collectEnds(ends map[string][]end) (unseen int) {
	pids, err := procfs.PIDs()
	if err != nil {
		return 1
	}
	for _, pid := range pids {
		tid, err := procfs.LiveThread(pid)
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				unseen++
			}
			continue
		}
		err = procfs.WalkThreadFDs(pid, tid, func(fd int, link []byte) bool {
			if list, ours := ends[string(link)]; ours {
				e := end{pid: pid, fd: fd, read: true, write: true}
				if info, err := procfs.ReadThreadFDInfo(pid, tid, fd); err == nil {
					e.read, e.write = info.CanRead(), info.CanWrite()
				}
				ends[string(link)] = append(list, e)
			}
			return true
		})
		if errors.Is(err, fs.ErrPermission) {
			unseen++
		}
	}
	return unseen
}

// procfsPID returns our own PID as /proc shows it.
func procfsPID() int {
	st, err := procfs.ReadStatNoComm(procfs.Self)
	if err != nil {
		return 0
	}
	return st.PID
}
