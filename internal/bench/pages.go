package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Where the published results are, below the directory of this module.
const (
	publishedResults = "results.json"
	publishedPlots   = "plots"
)

// A page is a document of the project in which what stands between two markers is made of the published
// results, and written by nobody else.
type page struct {
	path       string // from the directory of this module
	begin, end string // the markers
	text       func(*report) string
}

// pages are the documents that show results.
var pages = []page{
	{"../../docs/performance.md", "<!-- bench:begin -->", "<!-- bench:end -->", (*report).details},
	{"../../README.md", "<!-- bench-summary:begin -->", "<!-- bench-summary:end -->", (*report).summary},
}

// publish writes the results, the plots, and what the pages show of them.
func (r *report) publish(dir string) error {
	results := filepath.Join(dir, publishedResults)
	if err := writeFile(results, r.json); err != nil {
		return err
	}
	return render(dir)
}

// publishable fails where there is a page to publish in that cannot be had.
func publishable(dir string) error {
	for _, p := range pages {
		if _, _, err := p.cut(dir); err != nil {
			return err
		}
	}
	return nil
}

// render makes the plots and the pages of the published results, so that they hold nothing that the
// results do not.
func render(dir string) error {
	r, err := readReport(filepath.Join(dir, publishedResults))
	if err != nil {
		return err
	}
	plots := filepath.Join(dir, publishedPlots)
	if err := errors.Join(os.MkdirAll(plots, 0o755), r.plot(plots)); err != nil {
		return err
	}
	for _, p := range pages {
		before, after, err := p.cut(dir)
		if err != nil {
			return err
		}
		text := before + p.block(r) + after
		if err := os.WriteFile(filepath.Join(dir, p.path), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// cut returns what the page holds before and after its block.
func (p *page) cut(dir string) (before, after string, err error) {
	text, err := os.ReadFile(filepath.Join(dir, p.path))
	if err != nil {
		return "", "", err
	}
	before, rest, begins := strings.Cut(string(text), p.begin)
	_, after, ends := strings.Cut(rest, p.end)
	if !begins || !ends {
		return "", "", fmt.Errorf("%s has no %s … %s", p.path, p.begin, p.end)
	}
	return before, after, nil
}

// block is what a page shows, with its markers.
func (p *page) block(r *report) string {
	return p.begin + "\n" +
		"<!-- Written by `go run . -publish` in internal/bench, and checked by its tests: not by hand. -->\n" +
		p.text(r) + p.end
}

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report
	return &r, json.Unmarshal(text, &r)
}

// details are all results, with what is to be known of them.
func (r *report) details() string {
	var w strings.Builder
	e := &r.Environment
	command := strings.Join(append([]string{"go run ."}, e.Command[1:]...), " ")
	fmt.Fprintf(&w, "Measured on %s in %.0f minutes: %s, %d CPUs, Linux %s, %s, load average %.1f before and %.1f after\n(`%s`).\n",
		e.Date.Format("2006-01-02"), max(e.Seconds/60, 1), e.CPU, e.CPUs, e.Kernel, e.Go, e.LoadBefore, e.LoadAfter, command)
	fmt.Fprintf(&w, `
Each ratio is the median of ratios of neighboring runs, with its 95 %% interval; less is better. The noise floor is
os/exec against itself in the same rounds: what is not clear of it says nothing. `+"`%s`"+` is os/exec with all that it has for
safety: CommandContext, Setpgid, Cancel, WaitDelay. `+"`%s`"+` is the same in a session of its own, as safeexec's commands are:
where the kernel schedules by session (autogroup), that alone makes a command wait longer on a busy machine.
`, reference, inSession)
	for _, p := range pictures {
		if svg, err := p.draw(r); err == nil && svg != nil {
			fmt.Fprintf(&w, "\n![%s](../internal/bench/%s/%s)\n", p.what, publishedPlots, p.name)
		}
	}
	r.costs(&w)
	r.modes(&w)
	r.ends(&w)
	r.slopes(&w)
	if len(r.Notes) > 0 {
		fmt.Fprintf(&w, "\nNotes of the run:\n\n")
		for _, note := range r.Notes {
			fmt.Fprintf(&w, "- %s\n", note)
		}
	}
	return w.String()
}

// headlines are the cases that the summary shows.
var headlines = []struct{ workload, name, unit, words string }{
	{"latency", "program=noop/at-once=1", secPerOp, "the time of a command that does nothing"},
	{"throughput", "stdout=1MiB-kept", secPerGiB, "the time to read a GiB of output and keep 1 MiB"},
	{"sleepers", "commands=1000", bytesPerCommand, "the memory of each of 1000 sleeping commands"},
}

// summary is what the project's first page shows: a line for each headline, and a picture.
func (r *report) summary() string {
	var w strings.Builder
	fmt.Fprintf(&w, "Against os/exec with its own safety options, on %s with %d CPUs:\n\n", r.Environment.CPU, r.Environment.CPUs)
	for _, h := range headlines {
		own, base := r.find(h.workload, h.name, subject, h.unit), r.find(h.workload, h.name, reference, h.unit)
		if own != nil && own.N > 0 && base != nil {
			fmt.Fprintf(&w, "- %s: %s of os/exec (%s beside %s).\n", h.words, own.ratio(), own.median(), base.median())
		}
	}
	p := &pictures[0]
	if svg, err := p.draw(r); err == nil && svg != nil {
		fmt.Fprintf(&w, "\n![%s](internal/bench/%s/%s)\n", p.what, publishedPlots, p.name)
	}
	return w.String()
}
