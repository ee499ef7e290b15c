package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
)

func TestMain(m *testing.M) {
	runSelf()
	keepAvailable(&bench{log: &logger{os.Stderr}})
	code := m.Run()
	removePrograms()
	os.Exit(code)
}

// TestWorkloads runs each workload at tiny counts. Every implementation must take part wherever its
// row of the table says that it can.
func TestWorkloads(t *testing.T) {
	for _, w := range workloads {
		t.Run(w.name, func(t *testing.T) {
			var said bytes.Buffer
			b := &bench{sizes: quick, log: &logger{&said}}
			b.pairs, b.few, b.batches, b.bytes, b.stream = 4, 2, 1, 1<<20, 4<<20
			if err := w.run(b); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(said.String(), "left out") && !strings.Contains(said.String(), errNoCompiler.Error()) {
				t.Error(said.String())
			}
			names := []string{reference, subject}
			if w.name == "killtree" || w.name == "sweep" || w.name == "shares" { // they have references of their own
				names = names[1:]
			}
			for _, name := range names {
				if !slices.ContainsFunc(b.report.Rows, func(r row) bool { return r.Impl == name && len(r.Values) > 0 }) {
					t.Errorf("no row of %s: %s", name, said.String())
				}
			}
		})
	}
}

// TestOutputs has the program write all its files, and reads them back.
func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	var stdout, stderr bytes.Buffer
	if err := benchMain([]string{"-quick", "-run", "latency,phases", "-pairs", "6", "-out", dir}, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(stdout.String(), "noise floor") {
		t.Error("the table has no noise floor: " + stdout.String())
	}
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	e := r.Environment
	if e.CPU == "" || e.Kernel == "" || e.Go == "" || e.Date.IsZero() || len(r.Rows) == 0 {
		t.Errorf("incomplete: %+v", e)
	}
	for _, name := range []string{"results.md", "latency.svg"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Contains(text, []byte(subject)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	file, err := os.Open(filepath.Join(dir, "bench.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lines := 0
	for reader := benchfmt.NewReader(file, "bench.txt"); reader.Scan(); lines++ {
		if broken, ok := reader.Result().(*benchfmt.SyntaxError); ok {
			t.Fatal(broken)
		}
	}
	if lines == 0 {
		t.Error("bench.txt has no results")
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-run", "nonsense"}, {"-impl", "nonsense"}, {"-nonsense"}, {"-quick", "-publish"}} {
		if err := benchMain(args, &bytes.Buffer{}, &bytes.Buffer{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}
