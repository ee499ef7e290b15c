package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
)

// A row is one implementation in one case of a workload, in one unit.
type row struct {
	Workload string    `json:"workload"`
	Case     string    `json:"case"`
	Impl     string    `json:"impl"`
	Unit     string    `json:"unit"`
	N        int       `json:"n"`
	Value    interval  `json:"value"`
	P99      float64   `json:"p99,omitempty"` // of single runs
	Singles  int       `json:"single_runs,omitempty"`
	Ratio    *interval `json:"ratio,omitempty"`    // to the reference, round by round
	To       string    `json:"ratio_to,omitempty"` // the reference
	Floor    *interval `json:"floor,omitempty"`    // what the value would be if there were no effect
	Verdict  string    `json:"verdict,omitempty"`
	Note     string    `json:"note,omitempty"`
	Load     float64   `json:"load"` // 1-minute load average when it was measured
	Values   values    `json:"values"`
}

// A report is all that one call of the program measured.
type report struct {
	Environment environment `json:"environment"`
	Rows        []row       `json:"rows"`
	Notes       []string    `json:"notes"`
}

// addLanes adds the rows of a race, in the given units.
func (r *report) addLanes(workload, name string, lanes []lane, units ...string) {
	r.addRace(reference, workload, name, lanes, units...)
}

// addRace adds the rows of a race that has a reference of its own.
func (r *report) addRace(reference, workload, name string, lanes []lane, units ...string) {
	var base, again *lane
	for i := range lanes {
		switch lanes[i].impl {
		case reference:
			base = &lanes[i]
		case reference + againSuffix:
			again = &lanes[i]
		}
	}
	for _, unit := range units {
		var floor interval
		if base != nil && again != nil {
			floor = medianOf(ratios(again.values[unit], base.values[unit]))
		}
		for i := range lanes {
			l := &lanes[i]
			values := l.values[unit]
			if len(values) == 0 {
				continue
			}
			out := row{Workload: workload, Case: name, Impl: l.impl, Unit: unit, N: len(values),
				Value: medianOf(values), Values: values, Load: loadAverage()}
			if unit == secPerOp && len(l.each) > 0 {
				out.P99, out.Singles = quantile(l.each, 0.99), len(l.each)
			}
			if base != nil && l != base {
				if pairs := ratios(values, base.values[unit]); len(pairs) > 0 {
					ratio := medianOf(pairs)
					out.Ratio, out.To = &ratio, reference
					if l == again {
						out.Verdict = "noise floor"
					} else {
						out.Verdict = verdict(ratio, floor)
					}
				}
			}
			r.Rows = append(r.Rows, out)
		}
	}
}

// addValues adds a row that no race measured.
func (r *report) addValues(workload, name, impl, unit, note string, values ...float64) {
	r.Rows = append(r.Rows, row{Workload: workload, Case: name, Impl: impl, Unit: unit, N: len(values),
		Value: medianOf(values), Values: values, Note: note, Load: loadAverage()})
}

// addNothing adds a row that says why there is no value.
func (r *report) addNothing(workload, name, impl, unit, why string) {
	r.Rows = append(r.Rows, row{Workload: workload, Case: name, Impl: impl, Unit: unit, Note: why, Load: loadAverage()})
}

// remark adds a note to the last row of an implementation in a case.
func (r *report) remark(workload, name, impl, unit, note string) {
	if found := r.find(workload, name, impl, unit); found != nil {
		found.Note = note
	}
}

// find returns the row of an implementation in a case, nil if there is none.
func (r *report) find(workload, name, impl, unit string) *row {
	for i := range r.Rows {
		if w := &r.Rows[i]; w.Workload == workload && w.Case == name && w.Impl == impl && w.Unit == unit {
			return w
		}
	}
	return nil
}

// Units that get a form of their own; all others are printed as plain numbers.
const (
	secPerOp  = "sec/op"
	cpuPerOp  = "cpu-sec/op"
	secPerGiB = "sec/GiB"
	cpuPerGiB = "cpu-sec/GiB"
	allocsOp  = "allocs/op"
	bytesOp   = "B/op"

	bytesPerCommand = "B/command"
	secToEnd        = "end-sec"
)

func format(v float64, unit string) string {
	switch {
	case math.IsNaN(v):
		return "?"
	case strings.Contains(unit, "sec"):
		switch a := math.Abs(v); {
		case a >= 1:
			return fmt.Sprintf("%.3g s", v)
		case a >= 1e-3:
			return fmt.Sprintf("%.3g ms", v*1e3)
		}
		return fmt.Sprintf("%.3g µs", v*1e6)
	case strings.HasPrefix(unit, "B/"):
		return fmt.Sprintf("%.1f KiB", v/(1<<10))
	case unit == "B":
		return fmt.Sprintf("%.1f MiB", v/(1<<20))
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.4g", v)
}

func (r *row) cells() []string {
	value := "none"
	if r.N > 0 {
		value = format(r.Value.Median, r.Unit)
	}
	if r.N > 1 {
		value += fmt.Sprintf(" [%s, %s]", format(r.Value.Low, r.Unit), format(r.Value.High, r.Unit))
	}
	p99, ratio := "", ""
	if r.Singles > 0 {
		p99 = fmt.Sprintf("%s (of %d)", format(r.P99, r.Unit), r.Singles)
	}
	if r.Ratio != nil {
		ratio = r.Ratio.String()
		if r.To != reference {
			ratio += " to " + r.To
		}
	}
	remark := strings.Trim(r.Verdict+"; "+r.Note, "; ")
	if r.Floor != nil {
		remark += fmt.Sprintf("; noise floor [%s, %s]", format(r.Floor.Low, r.Unit), format(r.Floor.High, r.Unit))
	}
	return []string{r.Workload, r.Case, r.Impl, r.Unit, fmt.Sprint(r.N), value, p99, ratio, remark}
}

var columns = []string{"workload", "case", "impl", "unit", "n", "median [95 %]", "p99", "ratio to " + reference + ", if not said", "remark"}

// markdown writes the results as a table for people.
func (r *report) markdown(w io.Writer) {
	fmt.Fprintf(w, "# Results\n\n%s\n", r.Environment.markdown())
	for _, note := range r.Notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
	fmt.Fprintf(w, "\n| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)))
	for i := range r.Rows {
		fmt.Fprintf(w, "| %s |\n", strings.Join(r.Rows[i].cells(), " | "))
	}
}

// text writes the same for a terminal.
func (r *report) text(w io.Writer) {
	widths := make([]int, len(columns))
	table := [][]string{columns}
	for i := range r.Rows {
		table = append(table, r.Rows[i].cells())
	}
	for _, cells := range table {
		for i, c := range cells {
			widths[i] = max(widths[i], len([]rune(c)))
		}
	}
	fmt.Fprintln(w)
	for _, cells := range table {
		var line strings.Builder
		for i, c := range cells {
			line.WriteString(c + strings.Repeat(" ", widths[i]-len([]rune(c))+2))
		}
		fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
	}
}

// benchstat writes every value as a line of Go's benchmark format: benchstat -col /impl bench.txt.
func (r *report) benchstat(w io.Writer) {
	e := r.Environment
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/seed841d8200/safeexec/internal/bench\ncpu: %s\n", e.GOOS, e.GOARCH, e.CPU)
	for _, row := range r.Rows {
		name := "Benchmark" + strings.ToUpper(row.Workload[:1]) + row.Workload[1:]
		if row.Case != "" {
			name += "/" + row.Case
		}
		impl := strings.NewReplacer(" (again)", "-again", " ", "-").Replace(row.Impl)
		for _, v := range row.Values {
			fmt.Fprintf(w, "%s/impl=%s-%d\t1\t%g %s\n", name, impl, e.GOMAXPROCS, v, row.Unit)
		}
	}
}

// json writes everything, a row a line.
func (r *report) json(w io.Writer) error {
	var text bytes.Buffer
	put := func(v any) error {
		line, err := json.Marshal(v)
		text.Write(line)
		return err
	}
	text.WriteString("{\"environment\": ")
	errs := []error{put(r.Environment)}
	text.WriteString(",\n\"notes\": ")
	errs = append(errs, put(r.Notes))
	text.WriteString(",\n\"rows\": [")
	for i := range r.Rows {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteByte('\n')
		errs = append(errs, put(r.Rows[i]))
	}
	text.WriteString("\n]}\n")
	_, err := w.Write(text.Bytes())
	return errors.Join(append(errs, err)...)
}
