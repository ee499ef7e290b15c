// Package report writes what became of the steps, for people and for test reporters.
package report

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// A State is what became of a step.
type State string

// The states.
const (
	Passed   State = "passed"
	Failed   State = "failed"
	Skipped  State = "skipped"  // what it needs has not passed
	Canceled State = "canceled" // by a signal
)

// A Result is a step and what became of it.
type Result struct {
	Name   string
	State  State
	Why    string // it has not passed
	Tries  int
	Begun  time.Time
	Took   time.Duration
	Output string // of the last try: its beginning and its end
}

// Count returns how many steps have that state.
func Count(results []Result, s State) (n int) {
	for _, r := range results {
		if r.State == s {
			n++
		}
	}
	return n
}

// Write writes a report, whole or not at all, to a file: [JUnit] or [Markdown].
func Write(path string, results []Result, write func(io.Writer, []Result) error) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if err := cmp.Or(write(f, results), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Markdown writes a table for people.
func Markdown(w io.Writer, results []Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d steps passed\n\n| step | | tries | time | |\n| --- | --- | --- | --- | --- |\n",
		Count(results, Passed), len(results))
	cell := strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;", "`", "\\`")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %d | %v | %s |\n",
			r.Name, r.State, r.Tries, r.Took.Round(time.Millisecond), cell.Replace(r.Why))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// The elements of a JUnit report.
type (
	suite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	testcase struct {
		Name      string   `xml:"name,attr"`
		Class     string   `xml:"classname,attr"`
		Seconds   string   `xml:"time,attr"`
		Timestamp string   `xml:"timestamp,attr,omitempty"`
		Failure   *problem `xml:"failure"`
		Skipped   *problem `xml:"skipped"`
	}
	problem struct {
		Message string `xml:"message,attr"`
		Output  string `xml:",chardata"`
	}
)

// JUnit writes what test reporters read. A step that was canceled counts as one that was skipped.
func JUnit(w io.Writer, results []Result) error {
	s := suite{Name: "ci", Tests: len(results), Failures: Count(results, Failed),
		Skipped: Count(results, Skipped) + Count(results, Canceled)}
	for _, r := range results {
		c := testcase{Name: r.Name, Class: "ci", Seconds: fmt.Sprintf("%.3f", r.Took.Seconds())}
		if !r.Begun.IsZero() {
			c.Timestamp = r.Begun.UTC().Format("2006-01-02T15:04:05")
		}
		switch r.State {
		case Failed:
			c.Failure = &problem{r.Why, r.Output}
		case Skipped, Canceled:
			c.Skipped = &problem{r.Why, r.Output}
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "\t")
	return cmp.Or(e.Encode(s), e.Close())
}
