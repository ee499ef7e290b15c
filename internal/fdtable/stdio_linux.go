package fdtable

import (
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Stdio looks at the standard streams and returns what is wrong with them.
func Stdio() []StdioFinding {
	var found []StdioFinding
	for fd := range FirstFD {
		if f := lookAtStream(fd); f.Problem != "" {
			found = append(found, f)
		}
	}
	return found
}

// nearlyFull is the part of a pipe from which on it is worth a word: a reader that keeps up leaves
// it nearly empty.
const nearlyFull = 3.0 / 4

func lookAtStream(fd int) StdioFinding {
	if _, err := sys.CloseOnExec(fd); err != nil {
		return StdioFinding{FD: FD{Num: fd}, Problem: StdioClosed}
	}
	if fd == 0 {
		return StdioFinding{}
	}
	file, err := sys.FileOf(fd)
	if err != nil || file.Type != sys.TypeFIFO && file.Type != sys.TypeSocket {
		return StdioFinding{} // it never blocks for want of a reader
	}
	ready, err := sys.Ready(fd)
	if err != nil {
		return StdioFinding{}
	}
	d, err := describe(fd)
	if err != nil {
		return StdioFinding{}
	}
	f := StdioFinding{FD: d}
	switch {
	case ready.Hangup:
		f.Problem = StdioNoReader
		return f
	case !ready.Writable:
		f.Problem = StdioFull
	case d.Pipe != nil && float64(d.Pipe.Unread) >= nearlyFull*float64(d.Pipe.Size):
		f.Problem = StdioNearlyFull
	}
	if d.Pipe == nil {
		return f
	}
	// A pipe whose only reader is this process is not full yet, and will never be read either.
	list := []FD{d}
	if f.Problem != "" || holdsReader(d.Target) {
		findPeers(list)
		f.FD = list[0]
	}
	if p := f.FD.Pipe; len(p.Peers) == 1 && p.Unseen == 0 && p.Peers[0].PID == procfsPID() {
		f.Problem = StdioOwnReader
	}
	return f
}

// holdsReader reports whether this process itself can read the pipe.
func holdsReader(target string) bool {
	held := false
	_ = procfs.WalkFDs(procfs.Self, func(fd int, link []byte) bool {
		if string(link) == target {
			mode, err := sys.ModeOf(fd)
			held = err == nil && mode.Read
		}
		return !held
	})
	return held
}
