// Package fdtable knows the descriptors of this process and of a child that has not run yet: what
// they are, which of them a child would inherit, and how to keep it from that.
//
// Descriptors are marked close-on-exec and never closed: they may be in use, by the Go runtime for
// one.
package fdtable

import (
	"os"

	"github.com/seed841d8200/safeexec/internal/proctree"
)

// FirstFD is the number after the standard streams, which are never marked.
const FirstFD = 3

// The kinds of descriptors. An anonymous inode that is not listed is called what the kernel calls
// it.
const (
	KindFile      = "file"
	KindDirectory = "directory"
	KindTerminal  = "terminal"
	KindDevice    = "device"
	KindPipe      = "pipe"
	KindFIFO      = "fifo"
	KindSocket    = "socket"
	KindMemfd     = "memfd"
	KindPidfd     = "pidfd"
	KindNamespace = "namespace"
	KindUnknown   = "unknown"
)

// An FD is one descriptor.
type FD struct {
	Num         int
	Kind        string
	Target      string // path, or what the kernel calls it
	Deleted     bool   // the file has no name any more
	Read, Write bool   // as it was opened; neither with O_PATH
	CloseOnExec bool
	Nonblock    bool
	Born        bool   // this process was born with it
	Declared    string // the variable of the environment that declares it
	Pipe        *Pipe
	Socket      *Socket
}

// A Pipe is what is known about a pipe or FIFO.
type Pipe struct {
	Size   int // bytes it can hold
	Unread int // bytes in it
	Peers  []proctree.Holder
	Unseen int // processes whose descriptors may not be read; -1 if peers were not looked for
}

// A Socket is what is known about a socket.
type Socket struct {
	Network       string
	Local, Remote string
	State         string // "LISTEN", "ESTABLISHED" …; empty where there is none
	Unread        int
	Unsent        int
}

// Found is what the step before a start found.
type Found struct {
	Marked   []FD  // marked close-on-exec by this call
	Leaked   []FD  // would be inherited, and was left as it is
	Declared []FD  // left because the environment declares them
	Err      error // why nothing is known, or not everything was marked
}

// What can be wrong with a standard stream.
const (
	StdioClosed     = "closed"
	StdioNoReader   = "no reader"
	StdioFull       = "full"
	StdioNearlyFull = "nearly full"
	StdioOwnReader  = "no reader but this process"
)

// A StdioFinding is something wrong with a standard stream.
type StdioFinding struct {
	FD      FD
	Problem string
}

// CloseAll closes files, at the end of their use by a start.
func CloseAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
