package safeexec

import (
	"fmt"
	"os"
	"strings"

	"github.com/seed841d8200/safeexec/internal/diagnose"
)

// maxShownCommand is how much of a command line a line of text shows, in bytes.
const maxShownCommand = 200

// String returns the report as text of several lines, for a log: the verdict, then the processes as a
// tree with what each is blocked in. Unlike the verdict it holds names of files and, redacted, command
// lines.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.Verdict)
	t := reportText{report: &r, out: &b, children: make(map[int][]int)}
	t.arrange()
	t.measure()
	for _, i := range t.top {
		t.process(i, 0)
	}
	t.missing()
	return b.String()
}

// A reportText lays out processes as a tree.
type reportText struct {
	report   *Report
	out      *strings.Builder
	top      []int         // indexes of those whose parent is not in the report
	children map[int][]int // by index of the parent
	width    int           // of the column of PIDs and names
}

// arrange puts each process below its parent. What a process says of its parent is the kernel's word,
// but taken at another moment than the parent's own: a circle is not followed.
func (t *reportText) arrange() {
	byPID := make(map[int]int)
	for i := range t.report.Processes {
		byPID[t.report.Processes[i].PID] = i
	}
	for i := range t.report.Processes {
		p := &t.report.Processes[i]
		parent, ok := byPID[p.PPID]
		if ok && parent != i && parent < i {
			t.children[parent] = append(t.children[parent], i)
		} else {
			t.top = append(t.top, i)
		}
	}
}

// maxIndent bounds how far a deep tree moves to the right, and maxColumn how wide a name may make it.
const (
	maxIndent = 12
	maxColumn = 44
)

func (t *reportText) measure() {
	var walk func(i, depth int)
	walk = func(i, depth int) {
		t.width = max(t.width, min(len(t.head(i, depth)), maxColumn))
		for _, c := range t.children[i] {
			walk(c, depth+1)
		}
	}
	for _, i := range t.top {
		walk(i, 0)
	}
}

func (t *reportText) head(i, depth int) string {
	p := &t.report.Processes[i]
	return strings.Repeat("  ", min(depth, maxIndent)) + fmt.Sprintf("%d %s", p.PID, diagnose.Printable(p.Name))
}

func (t *reportText) process(i, depth int) {
	p := &t.report.Processes[i]
	fmt.Fprintf(t.out, "%-*s  %-8s  cpu %-6s  %s\n", t.width, t.head(i, depth), p.Role, diagnose.Span(p.CPU), p.doing())
	pad := strings.Repeat(" ", t.width+2)
	if len(p.Command) > 0 {
		fmt.Fprintf(t.out, "%scommand: %s\n", pad, shown(p.Command))
	}
	if len(p.PipeFDs) > 0 && p.Role != RoleRoot && p.Role != RoleMember {
		fmt.Fprintf(t.out, "%sholds the output pipe: fd %s\n", pad, numbers(p.PipeFDs))
	}
	if len(p.Threads) > 1 {
		for text, count := range p.threadTexts() {
			fmt.Fprintf(t.out, "%s%d of %d threads: %s\n", pad, count, p.ThreadCount, text)
		}
	}
	for _, c := range t.children[i] {
		t.process(c, depth+1)
	}
}

// threadTexts yields what threads do, each once, with how many do it, in the order of the threads.
func (p *ReportProcess) threadTexts() func(yield func(string, int) bool) {
	var order []string
	counts := make(map[string]int)
	for i := range p.Threads {
		text := p.Threads[i].doing()
		if counts[text] == 0 {
			order = append(order, text)
		}
		counts[text]++
	}
	return func(yield func(string, int) bool) {
		for _, text := range order {
			if !yield(text, counts[text]) {
				return
			}
		}
	}
}

// doing says what a process does: its state, and what its first thread is blocked in.
func (p *ReportProcess) doing() string {
	switch {
	case p.State == "Z" && p.ThreadCount <= 1:
		return fmt.Sprintf("zombie, not reaped by %d", p.PPID)
	case p.State == "T":
		return "stopped"
	case p.State == "t":
		return fmt.Sprintf("stopped by its tracer %d", p.Tracer)
	case p.State == "":
		return "ended"
	case p.PID == os.Getpid():
		return "this process"
	case len(p.Threads) == 0:
		return "could not be looked at"
	}
	text := p.Threads[0].doing()
	if p.State == "R" && p.Cores >= 0 {
		text += fmt.Sprintf(", %.0f %% of a core", 100*p.Cores)
	}
	if p.Unreadable {
		text += " (may not be looked at)"
	}
	return text
}

func (t *ReportThread) doing() string {
	switch {
	case t.Text != "":
		return t.Text
	case t.State == "R":
		return "running"
	case t.Wchan != "":
		return "in " + diagnose.Printable(t.Wchan)
	}
	return "state " + t.State
}

// missing says what the report could not have.
func (t *reportText) missing() {
	r := t.report
	for _, m := range []struct {
		count int
		text  string
	}{
		{r.Unreadable, "%d processes may not be looked at\n"},
		{r.Omitted, "%d processes of the tree were left out for want of time\n"},
		{r.Unseen, "%d processes may have descriptors that may not be seen\n"},
	} {
		if m.count > 0 {
			fmt.Fprintf(t.out, m.text, m.count)
		}
	}
	if r.Partial {
		t.out.WriteString("there was no time to look at all descriptors of the machine\n")
	}
}

// shown writes a command line so that it stays on its line.
func shown(command []string) string {
	var b strings.Builder
	for i, arg := range command {
		if i > 0 {
			b.WriteByte(' ')
		}
		if arg == "" || strings.ContainsAny(arg, " \t\r\n\"'\\$`") || diagnose.Printable(arg) != arg {
			arg = fmt.Sprintf("%q", arg)
		}
		b.WriteString(arg)
		if b.Len() > maxShownCommand {
			return strings.ToValidUTF8(b.String()[:maxShownCommand], "") + "…"
		}
	}
	return b.String()
}

func numbers(list []int) string {
	var parts []string
	for _, n := range list {
		parts = append(parts, fmt.Sprint(n))
	}
	return strings.Join(parts, ", ")
}

// String lists the ends of the pipe, one a line.
func (u PipeUse) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "pipe %d", u.Inode)
	if u.Filled >= 0 && u.Size > 0 {
		fmt.Fprintf(&b, ", %d of %d bytes", u.Filled, u.Size)
	}
	b.WriteByte('\n')
	for _, side := range []struct {
		name    string
		holders []Holder
	}{{"reader", u.Readers}, {"writer", u.Writers}} {
		if len(side.holders) == 0 {
			fmt.Fprintf(&b, "no %s\n", side.name)
		}
		for _, h := range side.holders {
			fmt.Fprintf(&b, "%s %d %s, fd %s\n", side.name, h.PID, diagnose.Printable(h.Name), numbers(h.FDs))
		}
	}
	if u.Unseen > 0 {
		fmt.Fprintf(&b, "%d processes may have descriptors that may not be seen\n", u.Unseen)
	}
	return b.String()
}
