package diagnose

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
)

func number(n int) string { return strconv.Itoa(n) }

// Printable makes a name, which its process chose, fit for one line of a log.
func Printable(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, name)
}

// named is how a process is called: by PID and name.
func (g *graph) named(pid int) string {
	name := ""
	if i, ok := g.byPID[pid]; ok {
		name = g.s.Processes[i].Name
	}
	return who(pid, name)
}

func who(pid int, name string) string {
	if pid == os.Getpid() {
		return number(pid) + " (this process)"
	}
	if name == "" {
		return number(pid)
	}
	return number(pid) + " " + Printable(name)
}

// phrase says what a node does.
func (g *graph) phrase(n node) string {
	p := &g.s.Processes[n.process]
	switch {
	case p.Gone:
		return "has ended"
	case p.zombie():
		return "has exited and is not reaped by " + g.named(p.PPID)
	case p.State == 't' && p.Tracer != 0:
		return "is stopped by its tracer " + g.named(p.Tracer)
	case p.State == 'T' && p.StopSignal != 0:
		return "is stopped by " + signalName(int(p.StopSignal)) + " and waits for SIGCONT"
	case p.State == 'T':
		return "is stopped and waits for SIGCONT"
	case n.thread < 0:
		return "could not be looked at"
	}
	return p.Threads[n.thread].doing(p, g.named)
}

// doing says what a thread does, without names of files.
func (t *Thread) doing(p *Process, named func(int) string) string {
	switch {
	case t.Call.asksTerminal() && t.State != 'D':
		return terminalInput + " in " + t.Call.text(named, noFileNames) + t.since()
	case t.Call.Name != "" && t.State == 'D':
		return "is in uninterruptible sleep in " + t.Call.text(named, noFileNames)
	case t.Call.Name != "":
		return "is blocked in " + t.Call.text(named, noFileNames) + t.since()
	case t.State == 'R' || t.Call.Running:
		if p.Cores >= 0 && p.Cores <= 1000 {
			return fmt.Sprintf("is running, %.0f %% of a core", 100*p.Cores)
		}
		return "is running"
	}
	where := ""
	if t.Call.Wchan != "" {
		where = " in " + Printable(t.Call.Wchan)
	}
	switch {
	case t.State == 'D':
		return "is in uninterruptible sleep" + where
	case t.Call.Wchan == "n_tty_read":
		return terminalInput
	case p.Unreadable:
		return "is blocked" + where + ", and may not be looked at"
	}
	return "waits" + where
}

const terminalInput = "waits for terminal input"

// asksTerminal reports whether nothing but typing can make the call return.
func (c *Call) asksTerminal() bool {
	for _, fd := range c.FDs {
		if fd.Kind != "terminal" || !fd.Reading {
			return false
		}
	}
	return len(c.FDs) > 0 && c.Left < 0 && (c.Wait == WaitRead || c.Wait == WaitReady)
}

func (t *Thread) since() string {
	if t.Idle < time.Second || t.Call.Wait == WaitTime {
		return ""
	}
	return ", for " + Span(t.Idle)
}

// Span writes a duration as people do: 3d4h, 5m10s, 120ms.
func Span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d == math.MaxInt64:
		return "ever"
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d >= time.Second:
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return fmt.Sprintf("%dms", d/time.Millisecond)
}

// A naming says whether files may be named: a name can be an argument, and that a secret.
type naming int

const (
	noFileNames naming = iota
	fileNames
)

// Text writes the call with all that is known of it, names of files included.
func (c *Call) Text() string {
	return c.text(number, fileNames)
}

func (c *Call) text(named func(int) string, names naming) string {
	var b strings.Builder
	b.WriteString(c.Name + "(")
	switch {
	case len(c.Children) > 0 && (c.Wait == WaitChild || c.Wait == WaitExec):
		b.WriteString(c.children())
	case c.Wait == WaitTime && len(c.FDs) == 0:
	default:
		for i := range c.FDs {
			if i > 0 {
				b.WriteString(", ")
			}
			if i == 3 && len(c.FDs) > 4 {
				fmt.Fprintf(&b, "%d more", len(c.FDs)-i)
				break
			}
			c.FDs[i].write(&b, c.Wait, named, names)
		}
		if len(c.FDs) == 0 && c.Path != "" && names == fileNames {
			b.WriteString(strconv.Quote(c.Path))
		}
	}
	b.WriteString(")")
	switch {
	case c.Wait == WaitChild && len(c.Children) == 0:
		b.WriteString(" without a child that lives")
	case c.Wait == WaitSignal && len(c.Children) > 0:
		b.WriteString(" for a signal, and has the child " + c.children())
	case c.Wait == WaitSignal:
		b.WriteString(" for a signal")
	case c.Owner != 0:
		b.WriteString(" for thread " + number(c.Owner))
	case c.Polls:
		b.WriteString(" between tries at a lock held by " + list(c.Holders, named))
	case len(c.Holders) > 0:
		b.WriteString(" on a lock held by " + list(c.Holders, named))
	case c.Wait == WaitLock:
		b.WriteString(" on a lock of an unknown holder")
	case c.Wait == WaitTime && c.Left >= 0:
		b.WriteString(", " + Span(c.Left) + " left")
	case c.Left >= 0:
		b.WriteString(", at most " + Span(c.Left) + " more")
	}
	return b.String()
}

func (c *Call) children() string {
	const most = 4
	var parts []string
	for i, pid := range c.Children {
		if i == most {
			parts = append(parts, fmt.Sprintf("%d more", len(c.Children)-i))
			break
		}
		parts = append(parts, number(pid))
	}
	sep := ", "
	if c.Any {
		sep = " or "
	}
	return strings.Join(parts, sep)
}

func list(pids []int, named func(int) string) string {
	var parts []string
	for _, pid := range pids {
		parts = append(parts, named(pid))
	}
	return strings.Join(parts, ", ")
}

// write writes "7 → tcp 10.0.0.5:51234 → 10.0.0.9:443 ESTABLISHED, 0 bytes unread".
func (d *Descriptor) write(b *strings.Builder, wait Wait, named func(int) string, names naming) {
	if d.FD >= 0 {
		b.WriteString(number(d.FD) + " → ")
	}
	b.WriteString(Printable(d.Kind))
	if names == fileNames && d.Path != "" && d.Kind != "unix" {
		b.WriteString(" " + strconv.Quote(d.Path))
	}
	switch d.Kind {
	case "pipe", "FIFO":
		d.writePipe(b, named)
	case "tcp", "udp", "unix", "socket":
		d.writeSocket(b, wait, named, names)
	case "eventpoll":
		fmt.Fprintf(b, ", %d descriptors", d.Watched)
	case "pidfd":
		if d.PID > 0 {
			b.WriteString(" of " + named(d.PID))
		}
	}
}

func (d *Descriptor) writePipe(b *strings.Builder, named func(int) string) {
	if d.Filled >= 0 && d.Size > 0 {
		fmt.Fprintf(b, ", %d of %d bytes", d.Filled, d.Size)
	}
	other := "reader"
	if d.Reading {
		other = "writer"
	}
	switch {
	case len(d.Ends) > 0:
		b.WriteString(", " + other + " " + endNames(d.Ends, named))
	case d.EndsKnown:
		b.WriteString(", no " + other)
	default:
		b.WriteString(", no " + other + " that could be seen")
	}
}

// endNames names each process once.
func endNames(all []End, named func(int) string) string {
	const most = 3
	var parts []string
	last := 0
	for _, e := range all {
		if e.PID == last {
			continue
		}
		last = e.PID
		if len(parts) == most {
			parts = append(parts, "others")
			break
		}
		parts = append(parts, endName(e, named))
	}
	return strings.Join(parts, ", ")
}

func endName(e End, named func(int) string) string {
	if name := named(e.PID); name != number(e.PID) {
		return name
	}
	return who(e.PID, e.Name)
}

func (d *Descriptor) writeSocket(b *strings.Builder, wait Wait, named func(int) string, names naming) {
	switch {
	case d.Kind == "unix" && names == fileNames && (d.Local != "" || d.Remote != ""):
		path := d.Remote
		if path == "" {
			path = d.Local
		}
		b.WriteString(" " + strconv.Quote(path))
	case d.Kind == "unix":
	case d.Remote != "":
		b.WriteString(" " + d.Local + " → " + d.Remote)
	case d.Local != "":
		b.WriteString(" " + d.Local)
	}
	if d.State != "" {
		b.WriteString(" " + d.State)
	}
	switch {
	case d.Listening:
	case wait == WaitWrite && d.Unsent >= 0:
		fmt.Fprintf(b, ", %d bytes unsent", d.Unsent)
	case d.Unread >= 0:
		fmt.Fprintf(b, ", %d bytes unread", d.Unread)
	}
	if d.Kind == "tcp" && d.Silent >= 0 && !d.Listening && d.State == "ESTABLISHED" {
		b.WriteString(", silent for " + Span(d.Silent))
	}
	if len(d.Ends) > 0 {
		b.WriteString(", peer " + endNames(d.Ends, named))
	}
}
