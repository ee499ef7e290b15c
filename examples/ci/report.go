package main

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// count returns how many steps have that state.
func count(results []*result, s state) (n int) {
	for _, r := range results {
		if r.state == s {
			n++
		}
	}
	return n
}

// report writes a report to a file, whole or not at all.
func report(path string, results []*result, write func(io.Writer, []*result) error) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	if err := cmp.Or(write(f, results), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// markdown writes a table for people.
func markdown(w io.Writer, results []*result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d steps passed\n\n| step | | tries | time | |\n| --- | --- | --- | --- | --- |\n",
		count(results, passed), len(results))
	cell := strings.NewReplacer("\n", " ", "|", `\|`, "<", "&lt;", "`", "\\`")
	for _, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %d | %v | %s |\n",
			r.Name, r.state, r.tries, r.took.Round(time.Millisecond), cell.Replace(r.why))
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

// junit writes what test reporters read. A step that was canceled counts as one that was skipped.
func junit(w io.Writer, results []*result) error {
	s := suite{Name: "ci", Tests: len(results), Failures: count(results, failed),
		Skipped: count(results, skipped) + count(results, canceled)}
	for _, r := range results {
		c := testcase{Name: r.Name, Class: "ci", Seconds: fmt.Sprintf("%.3f", r.took.Seconds())}
		if !r.begun.IsZero() {
			c.Timestamp = r.begun.UTC().Format("2006-01-02T15:04:05")
		}
		switch r.state {
		case failed:
			c.Failure = &problem{r.why, r.output}
		case skipped, canceled:
			c.Skipped = &problem{r.why, r.output}
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
