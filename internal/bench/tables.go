package main

import (
	"fmt"
	"io"
	"regexp"
	"strings"
)

// labels say in words what the cases are called.
var labels = []struct {
	is   *regexp.Regexp
	word string
}{
	{regexp.MustCompile(`^program=noop(/at-once=1)?$`), "a no-op"},
	{regexp.MustCompile(`^program=noop/at-once=(\d+)$`), "a no-op, $1 at once"},
	{regexp.MustCompile(`^program=(.*)/at-once=1$`), "`$1`, a large program"},
	{regexp.MustCompile(`^size=(\d+)(.*)$`), "output of $1 $2"},
	{regexp.MustCompile(`^lines=(.*)$`), "output of $1 short lines"},
	{regexp.MustCompile(`^stdout=1MiB-kept$`), "captured, 1 MiB kept"},
	{regexp.MustCompile(`^stdout=Writer$`), "to a Writer"},
	{regexp.MustCompile(`^stdin=Reader/stdout=Writer$`), "Reader to `cat` to Writer"},
	{regexp.MustCompile(`^bytes=(\d+)/kept=1MiB$`), "$1 bytes of output, 1 MiB kept"},
	{regexp.MustCompile(`^commands=(\d+)$`), "$1 sleeping commands"},
	{regexp.MustCompile(`^tree=1/end=deadline$`), "1, by a deadline"},
	{regexp.MustCompile(`^tree=1/state=running$`), "1, that computes"},
	{regexp.MustCompile(`^(?:tree|mixed)=(\d+)$`), "$1"},
	{regexp.MustCompile(`^holder=background/.*$`), "by a background process"},
	{regexp.MustCompile(`^holder=escaped/.*$`), "by one that left the session"},
}

func label(of string) string {
	for _, l := range labels {
		if l.is.MatchString(of) {
			return l.is.ReplaceAllString(of, l.word)
		}
	}
	return of
}

// units say what a value is a number of.
var units = map[string]string{
	secPerOp: "time", cpuPerOp: "CPU time of the host", secPerGiB: "time a GiB", cpuPerGiB: "CPU time of the host a GiB",
	allocsOp: "allocations", bytesPerCommand: "memory of the host each", "threads": "threads of the host",
	"descriptors": "descriptors of the host", secToEnd: "time from one cancellation until all have returned", "B": "memory more than before",
}

// shown are the rows of the table of costs.
var shown = []struct{ workload, unit string }{
	{"latency", secPerOp}, {"latency", cpuPerOp}, {"allocs", allocsOp}, {"output", secPerOp}, {"throughput", secPerGiB},
	{"throughput", cpuPerGiB}, {"stream", "B"}, {"sleepers", bytesPerCommand}, {"sleepers", "threads"}, {"sleepers", "descriptors"},
	{"sleepers", secToEnd},
}

// costs is the table of os/exec and safeexec, and what of it does not fit.
func (r *report) costs(w io.Writer) {
	fmt.Fprintf(w, "\n| | `%s` | safeexec | ratio | ratio of `%s` | noise floor | |\n"+
		"| --- | --- | --- | --- | --- | --- | --- |\n", reference, inSession)
	for _, s := range shown {
		for i := range r.Rows {
			own := &r.Rows[i]
			if own.Workload != s.workload || own.Unit != s.unit || own.Impl != subject || own.N == 0 {
				continue
			}
			if own.Unit == cpuPerOp && strings.Contains(own.Case, "/at-once=") && !strings.HasSuffix(own.Case, "=1") {
				continue // says no more than the one above
			}
			base := r.find(own.Workload, own.Case, reference, own.Unit)
			fmt.Fprintf(w, "| %s, %s | %s | %s | %s | %s | %s | %s |\n", label(own.Case), units[own.Unit], base.median(), own.median(),
				own.ratio(), r.find(own.Workload, own.Case, inSession, own.Unit).ratio(), r.floor(own, twin), own.Verdict)
		}
	}
	for i := range r.Rows {
		if own := &r.Rows[i]; own.Workload == "sleepers" && own.N == 0 && (own.Impl == subject || own.Impl == reference) {
			fmt.Fprintf(w, "\n%s, `%s`: %s.\n", label(own.Case), own.Impl, own.Note)
		}
	}
}

// modes is the table of what a mode of safeexec adds, and of what a part of it takes.
func (r *report) modes(w io.Writer) {
	const one, many = "program=noop/at-once=1", "program=noop/at-once=16"
	fmt.Fprintf(w, "\n| mode, no-op | one at a time | 16 at once | CPU time of the host |\n"+
		"| --- | --- | --- | --- |\n")
	for _, mode := range []struct{ impl, what string }{
		{subject, "safeexec"}, {inCgroup, "with `WithContainment(ContainmentCgroup)`"}, {withProof, "with `WithFDProof()`"},
		{twin, "noise floor"},
	} {
		fmt.Fprintf(w, "| %s | %s | %s | %s |\n", mode.what, r.find("latency", one, mode.impl, secPerOp).ratio(),
			r.find("latency", many, mode.impl, secPerOp).ratio(), r.find("latency", one, mode.impl, cpuPerOp).ratio())
	}
	if r.find("shares", sharesNoop, subject, secPerOp) == nil {
		return
	}
	fmt.Fprintf(w, "\n| without a part, against the whole run | time | CPU time of the host |\n"+
		"| --- | --- | --- |\n")
	r.parts(w, sharesOf, sharesNoop)
	r.parts(w, lendingOf, sharesMuch)
}

// parts are rows of a table of what is left out, if they were measured.
func (r *report) parts(w io.Writer, of []share, name string) {
	for _, part := range of[1:] {
		if r.find("shares", name, part.impl, secPerOp) == nil {
			continue
		}
		fmt.Fprintf(w, "| %s |", part.what)
		for _, unit := range []string{secPerOp, cpuPerOp} {
			found := r.find("shares", name, part.impl, unit)
			fmt.Fprintf(w, " %s, %s |", found.ratio(), found.Verdict)
		}
		fmt.Fprintln(w)
	}
}

// ends are the tables of how long the end of a tree takes.
func (r *report) ends(w io.Writer) {
	fmt.Fprintf(w, "\n| processes, from the end of the context to the return "+
		"| `%s`, one group, no proof | safeexec | its report | its kill and proof | in a cgroup |\n"+
		"| --- | --- | --- | --- | --- | --- |\n", reference)
	for i := range r.Rows {
		own := &r.Rows[i]
		if own.Workload != "deadline" || own.Impl != subject || strings.Contains(own.Case, "/phase=") {
			continue
		}
		at := func(phase, impl string) string { return r.find("deadline", own.Case+phase, impl, secPerOp).spread() }
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", label(own.Case), at("", reference), own.spread(),
			at("/phase=report", subject), at("/phase=stop", subject), at("", inCgroup))
	}
	fmt.Fprintf(w, "\n| processes of many sessions, from SIGKILL until proved empty "+
		"| `cgroup.kill` | safeexec | ratio | in a cgroup | ratio | noise floor |\n"+
		"| --- | --- | --- | --- | --- | --- | --- |\n")
	for i := range r.Rows {
		own := &r.Rows[i]
		if own.Workload != "killtree" || own.Impl != subject {
			continue
		}
		leaf := r.find("killtree", own.Case, inCgroup, secPerOp)
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", label(own.Case), r.find("killtree", own.Case, byCgroup, secPerOp).spread(),
			own.spread(), own.ratio(), leaf.spread(), leaf.ratio(), r.floor(own, byCgroup+againSuffix))
	}
	fmt.Fprintf(w, "\n| a held pipe, return after the linger | `%s`, ends nobody | safeexec | |\n"+
		"| --- | --- | --- | --- |\n", reference)
	for i := range r.Rows {
		if own := &r.Rows[i]; own.Workload == "held" && own.Impl == subject {
			fmt.Fprintf(w, "| %s | %s | %s | %s |\n", label(own.Case), r.find("held", own.Case, reference, secPerOp).spread(), own.spread(), own.Note)
		}
	}
}

// slopes is the table of what a run costs more beside something large.
func (r *report) slopes(w io.Writer) {
	fmt.Fprintf(w, "\n| a run costs more, for each | `%s` | safeexec | its noise floor | |\n"+
		"| --- | --- | --- | --- | --- |\n", reference)
	for i := range r.Rows {
		own := &r.Rows[i]
		if own.Workload != "flat" || own.Impl != subject || own.Floor == nil {
			continue
		}
		what, per, _ := strings.Cut(strings.TrimPrefix(own.Case, "slope="), "/per=")
		floor := row{Unit: own.Unit, N: own.N, Value: *own.Floor}
		fmt.Fprintf(w, "| %s %s | %s | %s | %s | %s |\n", per, what, r.find("flat", own.Case, reference, own.Unit).spread(), own.spread(),
			floor.spread(), own.Verdict)
	}
}

// The cells of a row that may be missing.

func (r *row) median() string {
	if r == nil || r.N == 0 {
		return ""
	}
	return format(r.Value.Median, r.Unit)
}

func (r *row) spread() string {
	if r == nil || r.N == 0 {
		return ""
	}
	if r.N == 1 {
		return r.median()
	}
	return fmt.Sprintf("%s [%s, %s]", r.median(), format(r.Value.Low, r.Unit), format(r.Value.High, r.Unit))
}

func (r *row) ratio() string {
	if r == nil || r.Ratio == nil {
		return ""
	}
	return r.Ratio.String()
}

// floor is how far the noise of a row's case reaches.
func (r *report) floor(of *row, again string) string {
	found := r.find(of.Workload, of.Case, again, of.Unit)
	if found == nil || found.Ratio == nil {
		return ""
	}
	if found.N == 1 {
		return found.ratio()
	}
	return fmt.Sprintf("%.3f to %.3f", found.Ratio.Low, found.Ratio.High)
}
