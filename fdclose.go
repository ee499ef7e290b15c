package safeexec

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/seed841d8200/safeexec/internal/engine"
	"github.com/seed841d8200/safeexec/internal/fdtable"
)

// What a child gets, and what it does not:
//
// Go opens files close-on-exec. Two sorts of descriptors are not: those that this process inherited,
// by intent or by carelessness of its parent, and those that C libraries and raw system calls open.
// Before each start one system call, whose cost does not depend on what is open, marks all of them
// close-on-exec. Nothing closes them, since their owners may be using them.
//
// The race that is left: a descriptor that another thread opens without close-on-exec after the
// mark and before the clone is inherited. The mark is set right before os/exec is called, which
// leaves some tens of microseconds, and set anew before each further try. Holding syscall.ForkLock
// would not help, C libraries do not know it, and would let one stuck start block every other.

// An FDPolicy says what a start does about descriptors that the child would inherit undeclared.
type FDPolicy int

// The policies.
const (
	// FDMark marks them close-on-exec, in this process and for good.
	FDMark FDPolicy = iota
	// FDReport leaves them as they are and lists them in Result.LeakedFDs.
	FDReport
	// FDRefuse leaves them as they are and does not start the command while there are any.
	FDRefuse
	// FDOff does not look.
	FDOff
)

type (
	fdPolicyOption FDPolicy
	fdsOption      []int
)

func (o fdPolicyOption) apply(c *config) { c.FDPolicy = engine.FDPolicy(o) }
func (o fdsOption) apply(c *config)      { c.FDs = o }

// WithFDPolicy sets what a start does about undeclared descriptors that the command would inherit: all
// but the standard streams, ExtraFiles, those of [WithFDs], and those that the command's environment
// declares, which the command keeps and Result.DeclaredFDs lists. The environment declares the jobserver
// of make, in MAKEFLAGS or CARGO_MAKEFLAGS, if this process inherited its pipe. The sockets of LISTEN_FDS
// are for this process alone (sd_listen_fds(3)): a command gets those that WithFDs names.
//
// The default, FDMark, changes this process for good: commands that are started without safeexec no
// longer inherit what was marked either. Programs that need other inherited descriptors than the
// declared ones need WithFDs: bash's tool <(command) is one, with its /dev/fd/63. A program that hands
// descriptors to its own successor by syscall.Exec must take the mark off right before that.
//
// On other systems than Linux FDMark does nothing and FDRefuse is [errors.ErrUnsupported].
func WithFDPolicy(policy FDPolicy) Option { return fdPolicyOption(policy) }

// WithFDs passes on descriptors of this process, under the numbers they have here, whether they are
// marked close-on-exec or not. What this process opened itself is better passed in ExtraFiles of
// the command; these are for what it was born with, where the command knows the number: a script's
// argument /dev/fd/63, a descriptor that a supervisor promises. Neither the mark nor O_NONBLOCK of
// the descriptor is changed. The numbers of standard streams and of ExtraFiles cannot be used. A
// later WithFDs replaces an earlier one. Linux only.
func WithFDs(fds ...int) Option { return fdsOption(slices.Clone(fds)) }

func (c *config) checkFDs(cmd *exec.Cmd) error {
	if c.FDPolicy < engine.FDMark || c.FDPolicy > engine.FDOff {
		return &ConfigError{Name: "WithFDPolicy", Reason: "is no known policy"}
	}
	for _, fd := range c.FDs {
		var what string
		switch {
		case fd < fdtable.FirstFD:
			what = "is no descriptor or a standard stream"
		case fd < fdtable.FirstFD+len(cmd.ExtraFiles):
			what = "is the number of an extra file"
		default:
			continue
		}
		return &ConfigError{Name: "WithFDs", Reason: fmt.Sprintf("cannot pass on %d, which %s", fd, what)}
	}
	return nil
}

// A LeakedFDsError lists descriptors that the command would have inherited undeclared. It matches
// [ErrLeakedFDs]. The command has not run.
type LeakedFDsError struct {
	FDs FDs
}

// Error names each descriptor.
func (e *LeakedFDsError) Error() string {
	var names []string
	for i := range e.FDs {
		names = append(names, fmt.Sprintf("%d (%s)", e.FDs[i].Num, e.FDs[i].target()))
	}
	return ErrLeakedFDs.Error() + ": " + strings.Join(names, ", ")
}

// Is reports whether target is ErrLeakedFDs.
func (e *LeakedFDsError) Is(target error) bool { return target == ErrLeakedFDs }

// An FDKind is what a descriptor refers to. Anonymous files that are not listed here go by the
// kernel's name for them: "eventpoll", "eventfd", "timerfd", "inotify" and so on.
type FDKind string

// The kinds of descriptors.
const (
	FDFile      FDKind = fdtable.KindFile
	FDDirectory FDKind = fdtable.KindDirectory
	FDTerminal  FDKind = fdtable.KindTerminal
	FDDevice    FDKind = fdtable.KindDevice
	FDPipe      FDKind = fdtable.KindPipe
	FDFIFO      FDKind = fdtable.KindFIFO
	FDSocket    FDKind = fdtable.KindSocket
	FDMemfd     FDKind = fdtable.KindMemfd
	FDPidfd     FDKind = fdtable.KindPidfd
	FDNamespace FDKind = fdtable.KindNamespace
	FDUnknown   FDKind = fdtable.KindUnknown
)

// An FD is one descriptor of this process, or of a child that has not run yet.
type FD struct {
	Num         int
	Kind        FDKind
	Target      string // a path, or the kernel's name of it: "pipe:[4711]"
	Deleted     bool   // a file that has no name any more
	Read, Write bool   // what it was opened for; neither with O_PATH
	CloseOnExec bool   // no child inherits it
	Nonblock    bool   // O_NONBLOCK, which all processes share that have the file open

	// Born says that this process was born with the descriptor, and not opened it. It holds as well
	// for what a C library opened without close-on-exec before Go's packages were initialized.
	Born bool

	// Declared is the variable of the environment, MAKEFLAGS or CARGO_MAKEFLAGS, that hands the
	// descriptor to commands: it is an end of the jobserver of make.
	Declared string

	Pipe   *PipeInfo   // of pipes and FIFOs
	Socket *SocketInfo // of sockets
}

// A PipeInfo says how full a pipe is and which processes have its other end.
type PipeInfo struct {
	Size   int      // bytes it can hold
	Unread int      // bytes in it
	Peers  []Holder // processes with the other end, this one included
	Unseen int      // processes whose descriptors we may not read; -1 in the result of a run, which reads none
}

// A SocketInfo says what a socket is connected to.
type SocketInfo struct {
	Network string // "tcp", "udp", "unix", "netlink" …
	Local   string // address, or the path of a Unix socket
	Remote  string // the same of the peer; empty where there is none
	State   string // "LISTEN", "ESTABLISHED", "CLOSE_WAIT" …; empty where there is none
	Unread  int    // bytes that were received and not read
	Unsent  int    // bytes that the peer has not acknowledged; of a Unix socket the memory it fills by not reading
}

// FDs is a list of descriptors, in ascending order. Its text is a table.
type FDs []FD

// AuditFDs lists the descriptors that are open in this process: what they are, whether a child
// would inherit them, and for pipes which processes have the other end. For that it reads the descriptors
// of all processes, which takes milliseconds on a busy machine. On other systems than Linux it
// returns [ErrUnsupported].
//
// The list is a snapshot, in which other goroutines' descriptors come and go.
func AuditFDs() (FDs, error) {
	list, err := fdtable.Audit()
	if errors.Is(err, errors.ErrUnsupported) {
		err = ErrUnsupported
	}
	return fds(list), err
}

func fds(list []fdtable.FD) FDs {
	if len(list) == 0 {
		return nil
	}
	out := make(FDs, len(list))
	for i := range list {
		out[i] = fd(&list[i])
	}
	return out
}

func fd(d *fdtable.FD) FD {
	f := FD{
		Num: d.Num, Kind: FDKind(d.Kind), Target: d.Target, Deleted: d.Deleted, Read: d.Read, Write: d.Write,
		CloseOnExec: d.CloseOnExec, Nonblock: d.Nonblock, Born: d.Born, Declared: d.Declared,
	}
	if p := d.Pipe; p != nil {
		f.Pipe = &PipeInfo{Size: p.Size, Unread: p.Unread, Unseen: p.Unseen}
		for _, h := range p.Peers {
			f.Pipe.Peers = append(f.Pipe.Peers, Holder{ProcessInfo: info(h.Process), FDs: h.FDs})
		}
	}
	if d.Socket != nil {
		s := SocketInfo(*d.Socket)
		f.Socket = &s
	}
	return f
}

// String returns a table with one line for each descriptor, under a heading; nothing for no
// descriptors.
func (l FDs) String() string {
	if len(l) == 0 {
		return ""
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "FD\tKIND\tMODE\tCHILD\tFROM\tTARGET")
	for i := range l {
		d := &l[i]
		_, _ = fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", d.Num, d.Kind, d.mode(), d.fate(), d.origin(), d.target())
	}
	_ = w.Flush()
	return b.String()
}

// String returns the line of the table, its columns separated by single spaces.
func (d FD) String() string {
	return fmt.Sprintf("%d %s %s %s %s %s", d.Num, d.Kind, d.mode(), d.fate(), d.origin(), d.target())
}

func (d FD) mode() string {
	m := ""
	if d.Read {
		m += "r"
	}
	if d.Write {
		m += "w"
	}
	if m == "" {
		return "-"
	}
	return m
}

// fate is what happens to the descriptor in a child.
func (d FD) fate() string {
	switch {
	case d.CloseOnExec:
		return "closed"
	case d.Num < fdtable.FirstFD:
		return "standard"
	case d.Declared != "":
		return "declared"
	}
	return "inherited"
}

func (d FD) origin() string {
	if d.Born {
		return "born"
	}
	return "opened"
}

// target is Target and what else is known, on one line: file names may hold anything.
func (d FD) target() string {
	t := printable(d.Target)
	if d.Deleted {
		t += " (deleted)"
	}
	if d.Declared != "" {
		t += " (" + d.Declared + ")"
	}
	if d.Pipe != nil {
		t += ", " + d.Pipe.String()
	}
	if d.Socket != nil {
		t = d.Socket.String()
	}
	if t == "" {
		return "-"
	}
	return t
}

// String says how full the pipe is and which processes have its other end.
func (p *PipeInfo) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d bytes, ", p.Unread, p.Size)
	if p.Unseen < 0 {
		return strings.TrimSuffix(b.String(), ", ")
	}
	for i, h := range p.Peers {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q (pid %d, fd %s)", h.Name, h.PID, strings.Trim(fmt.Sprint(h.FDs), "[]"))
	}
	if len(p.Peers) == 0 {
		b.WriteString("none that we may see at the other end")
	}
	if p.Unseen > 0 {
		fmt.Fprintf(&b, ", %d unreadable", p.Unseen)
	}
	return b.String()
}

// String returns network, addresses and state.
func (s *SocketInfo) String() string {
	t := s.Network
	if s.Local != "" {
		t += " " + printable(s.Local)
	}
	if s.Remote != "" {
		t += " → " + printable(s.Remote)
	}
	if s.State != "" {
		t += " " + s.State
	}
	if s.Unread > 0 {
		t += fmt.Sprintf(", %d bytes unread", s.Unread)
	}
	if s.Unsent > 0 {
		t += fmt.Sprintf(", %d bytes unsent", s.Unsent)
	}
	return t
}

// printable quotes what would break a line or a terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

// A StdioProblem says what is wrong with a standard stream.
type StdioProblem string

// The problems of standard streams.
const (
	// StdioClosed: the descriptor is not open. The next file opened gets its number, and with it what
	// was meant for the stream.
	StdioClosed StdioProblem = fdtable.StdioClosed
	// StdioNoReader: the output has no reader. A write fails, or ends the process with SIGPIPE.
	StdioNoReader StdioProblem = fdtable.StdioNoReader
	// StdioOwnReader: the only reader is this process itself, so that the pipe fills up and the
	// write that fills it never returns.
	StdioOwnReader StdioProblem = fdtable.StdioOwnReader
	// StdioFull: the next write waits until the reader reads.
	StdioFull StdioProblem = fdtable.StdioFull
	// StdioNearlyFull: at least three quarters of the pipe are unread.
	StdioNearlyFull StdioProblem = fdtable.StdioNearlyFull
)

// A StdioFinding is something wrong with one of this process's standard streams.
type StdioFinding struct {
	FD      FD // of a stream that is closed, its number alone
	Problem StdioProblem
}

// String returns the finding in words.
func (f StdioFinding) String() string {
	name := [...]string{"standard input", "standard output", "standard error"}[f.FD.Num]
	if f.Problem == StdioClosed {
		return name + ": " + string(f.Problem)
	}
	return name + ": " + string(f.Problem) + ": " + f.FD.target()
}

// AuditStdio looks at this process's standard streams and returns what is wrong with them. Call it when
// a service starts, and from its health check: a service whose standard error is a pipe without a reader
// works until the pipe is full, and then waits for ever in the next write. AuditStdio writes nothing to
// find out, and finds no fault with files, terminals and devices.
//
// It costs microseconds while nothing is wrong; else it looks at all processes to name the reader.
// A stream that was closed when the process was born is not found: the Go runtime opens /dev/null
// for it. On other systems than Linux it returns nothing.
func AuditStdio() []StdioFinding {
	var found []StdioFinding
	for _, f := range fdtable.Stdio() {
		found = append(found, StdioFinding{FD: fd(&f.FD), Problem: StdioProblem(f.Problem)})
	}
	return found
}
