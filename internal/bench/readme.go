package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The README of the project shows what stands between these two, and nobody writes it but publish.
const (
	blockBegin = "<!-- bench:begin -->"
	blockEnd   = "<!-- bench:end -->"
)

// Where the published results are, below the directory of this module.
const (
	publishedResults = "results.json"
	publishedPlots   = "plots"
	projectREADME    = "../../README.md"
)

// publish writes the results, the plots, and the block of the README that is made of them.
func (r *report) publish(dir string) error {
	results := filepath.Join(dir, publishedResults)
	if err := writeFile(results, r.json); err != nil {
		return err
	}
	return render(dir)
}

// publishable fails where there is no README to publish in.
func publishable(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, projectREADME))
	if err == nil {
		_, _, _, err = cutBlock(text)
	}
	return err
}

// render makes the plots and the block of the README of the published results, so that both hold
// nothing that the results do not.
func render(dir string) error {
	r, err := readReport(filepath.Join(dir, publishedResults))
	if err != nil {
		return err
	}
	plots := filepath.Join(dir, publishedPlots)
	if err := errors.Join(os.MkdirAll(plots, 0o755), r.plot(plots)); err != nil {
		return err
	}
	path := filepath.Join(dir, projectREADME)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, _, after, err := cutBlock(text)
	if err != nil {
		return err
	}
	text = bytes.Join([][]byte{before, []byte(r.block()), after}, nil)
	return os.WriteFile(path, text, 0o644)
}

func readReport(path string) (*report, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r report
	return &r, json.Unmarshal(text, &r)
}

// cutBlock returns what stands before, in and after the block, the markers in none of the outer two.
func cutBlock(text []byte) (before, block, after []byte, err error) {
	begin, end := bytes.Index(text, []byte(blockBegin)), bytes.Index(text, []byte(blockEnd))
	if begin < 0 || end < begin {
		return nil, nil, nil, fmt.Errorf("the README has no %s … %s", blockBegin, blockEnd)
	}
	end += len(blockEnd)
	return text[:begin], text[begin:end], text[end:], nil
}

// block is the part of the README that shows the results.
func (r *report) block() string {
	var w strings.Builder
	e := &r.Environment
	fmt.Fprintf(&w, "%s\n", blockBegin)
	fmt.Fprintf(&w, "<!-- Written by `go run . -readme` in internal/bench, and checked by its tests: not by hand. -->\n")
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
			fmt.Fprintf(&w, "\n![%s](internal/bench/%s/%s)\n", p.what, publishedPlots, p.name)
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
	fmt.Fprintf(&w, "%s", blockEnd)
	return w.String()
}
