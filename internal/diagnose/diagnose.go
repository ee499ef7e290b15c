// Package diagnose finds out what the processes of a tree are blocked in and which waits for which.
//
// It reads /proc and sock_diag(7), and changes nothing. It borrows no descriptor of another process: by
// the time the copy comes it may be a file's, and closing that would drop our locks on the file. It
// needs no privilege for what ptrace(2) would let us read; it counts processes that it may not read, and
// never takes them for absent.
package diagnose

import (
	"sync/atomic"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Target says what to look at.
type Target struct {
	PID      int      // the root
	Session  int      // whose members belong to the tree, but for its leader if that is not PID; 0 if unknown
	Child    bool     // PID is a child of ours that we have not reaped
	Members  []int    // processes known to belong to the tree
	Whole    bool     // Members is all of it, but for zombies and processes born meanwhile
	Holders  []int    // processes known to hold a pipe of ours
	Pipes    []uint64 // inodes of the pipes that we read the tree's output from
	Commands bool     // command lines are wanted
}

// A Role is why a process is in a report.
type Role int

// The roles.
const (
	Root     Role = iota // what was asked about
	Member               // of its tree
	Holder               // outside of the tree, holds a pipe of the run
	Outsider             // outside of the tree, at the other end of something
)

// A Snapshot is what was found. It is not changed once it is handed out.
type Snapshot struct {
	Taken time.Time
	Took  time.Duration

	Processes []Process // the root first, then members, holders and outsiders
	Chain     []Link    // from the root to the end
	Verdict   string
	Found     bool // the end of the chain is a cause
	Deadlock  bool

	Unreadable int  // processes whose blocked call may not be read
	Omitted    int  // processes of the tree for which there was no time
	Unseen     int  // processes whose descriptors may not be read
	Partial    bool // there was no time to read the descriptors of all processes
}

// A Link is one process of the chain.
type Link struct {
	PID, TID int
	Name     string
	Text     string // what it does, without arguments, environment and names of files
}

// A Process is one process.
type Process struct {
	PID, PPID, PGID, SID int
	Start                uint64 // clock ticks since boot
	Name                 string
	Role                 Role
	State                byte
	Tracer               int
	StopSignal           syscall.Signal // that stopped it; 0 if unknown
	CPU                  time.Duration
	Cores                float64 // of processor time during the report; -1 if unknown
	Command              []string
	PipeFDs              []int // that are pipes of the run, of one outside of the tree
	ThreadCount          int
	Threads              []Thread // that live, as far as they were looked at
	Gone                 bool     // it ended meanwhile
	Unreadable           bool     // what it is blocked in may not be read
}

// zombie reports whether the process has exited and is not reaped.
func (p *Process) zombie() bool { return p.State == 'Z' && p.ThreadCount <= 1 }

// A Thread is one thread.
type Thread struct {
	TID   int
	Name  string
	State byte
	Idle  time.Duration // since it last ran; -1 if unknown
	Call  Call
}

// A Call is what a thread is blocked in.
type Call struct {
	Name     string // empty where the thread runs, or its call is not known
	Running  bool
	Wchan    string // the function of the kernel, where the call is not known
	Wait     Wait
	FDs      []Descriptor
	Children []int         // that it waits for
	Any      bool          // any one of Children will do
	Path     string        // of a file that it opens
	Left     time.Duration // until it goes on at the latest; -1 for no bound, or one not known
	Owner    int           // TID that holds the futex; 0 if unknown
	Holders  []int         // of the lock that it waits for
	Polls    bool          // the lock is tried again and again
}

// A Wait is the kind of thing that a call waits for.
type Wait int

// The kinds.
const (
	WaitUnknown Wait = iota
	WaitChild        // the end of a child
	WaitExec         // a child of vfork, until it execs
	WaitRead
	WaitWrite
	WaitReady // one of several descriptors
	WaitAccept
	WaitConnect
	WaitLock
	WaitFutex
	WaitTime
	WaitOpen
	WaitSignal
	WaitFile // the work of a file system or a device
	WaitIPC  // System V or POSIX message queues and semaphores
)

// A Descriptor is a descriptor of a process, resolved.
type Descriptor struct {
	FD                 int
	Kind               string // pipe, FIFO, tcp, udp, unix, file, terminal, eventpoll …
	Inode              uint64
	Path               string
	Local, Remote      string // addresses of a socket
	State              string // of a socket
	Filled, Size       int    // of a pipe; -1 if unknown
	Unread, Unsent     int    // of a socket; -1 if unknown
	Silent             time.Duration
	Ends               []End // of a pipe or FIFO: the processes that can move it; of a socket: the peer
	EndsKnown          bool  // Ends is all there is
	Watched            int   // of eventpoll: how many descriptors it watches
	PID                int   // of a pidfd
	Reading, Listening bool

	link  string // of a pipe or FIFO: whose other ends can be looked for
	asker int    // PID of its process
}

// An End is a descriptor at the other end of a pipe or socket.
type End struct {
	PID, FD int
	Name    string
}

// An Inquiry is a report that is being taken, by a goroutine of its own.
type Inquiry struct {
	done   atomic.Bool
	quit   atomic.Bool
	latest atomic.Pointer[Snapshot]
}

// Supported reports whether this platform has what a report needs.
const Supported = sys.CanInspect

// softPart is how much of the bound is for looking; the rest is for bringing it to an end.
const softPart = 0.7

// Begin starts to look. done is called at the end, from another goroutine. The caller waits as long
// as it likes, and takes what there is. The goroutine ends by itself within about the bound, and
// what a process keeps from answering is left behind, see ask.
func Begin(target Target, bound time.Duration, done func()) *Inquiry {
	q := &Inquiry{}
	begun := time.Now()
	c := newCollector(target, begun, begun.Add(time.Duration(float64(bound)*softPart)))
	c.quit = q.quit.Load
	c.publish = q.latest.Store
	go func() {
		if !procfs.Foreign() { // to this thread, which need not have the caller's mounts
			c.run()
		}
		q.done.Store(true)
		done()
	}()
	return q
}

// Done reports whether the goroutine has nothing more to do.
func (q *Inquiry) Done() bool { return q.done.Load() }

// Finish returns what was found so far, nil if nothing, and has the goroutine end soon.
func (q *Inquiry) Finish() *Snapshot {
	q.quit.Store(true)
	return q.latest.Load()
}
