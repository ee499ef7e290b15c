package main

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestPages holds the figures of the project's pages to be those of the committed results.
func TestPages(t *testing.T) {
	r, err := readReport(publishedResults)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		text, err := os.ReadFile(p.path)
		if err != nil {
			t.Fatal(err)
		}
		before, after, err := p.cut(".")
		if err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSuffix(strings.TrimPrefix(string(text), before), after)
		if want := p.block(r); got != want {
			t.Errorf("%s does not show what %s holds (go run . -render writes it):\n%s", p.path, publishedResults, firstDifference(got, want))
		}
	}
	if runtime.GOARCH != "amd64" { // another has other last digits
		return
	}
	for _, p := range pictures {
		want, err := p.draw(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(publishedPlots, p.name))
		if want != nil && (err != nil || string(got) != string(want)) {
			t.Errorf("%s is not what %s gives: %v", p.name, publishedResults, err)
		}
	}
}

func firstDifference(got, want string) string {
	lines := strings.Split(want, "\n")
	for i, line := range strings.Split(got, "\n") {
		if i >= len(lines) || line != lines[i] {
			return "it has  " + line + "\nand not " + strings.Join(lines[i:min(i+1, len(lines))], "")
		}
	}
	return "it ends too early"
}

// TestPublish has each block written where its markers are and nowhere else, twice the same.
func TestPublish(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "internal", "bench")
	for _, d := range []string{dir, filepath.Join(root, "docs")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(text func(p page) string) {
		for _, p := range pages {
			if err := os.WriteFile(filepath.Join(dir, p.path), []byte(text(p)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var r report
	r.Environment = newEnvironment()
	if r.publish(dir) == nil || publishable(dir) == nil {
		t.Error("published without a page")
	}
	write(func(page) string { return "no block" })
	if r.publish(dir) == nil || publishable(dir) == nil {
		t.Error("published without markers")
	}
	write(func(p page) string { return "above\n" + p.begin + "\nold\n" + p.end + "\nbelow\n" })
	r.addValues("allocs", "program=noop", subject, allocsOp, "", 38)
	r.addValues("latency", "program=noop/at-once=1", reference, secPerOp, "", 0.002)
	r.addValues("latency", "program=noop/at-once=1", subject, secPerOp, "", 0.001)
	var written [2]string
	for i := range written {
		if err := r.publish(dir); err != nil {
			t.Fatal(err)
		}
		for _, p := range pages {
			text, err := os.ReadFile(filepath.Join(dir, p.path))
			if err != nil {
				t.Fatal(err)
			}
			for _, part := range []string{"above\n" + p.begin, p.end + "\nbelow\n"} {
				if !strings.Contains(string(text), part) {
					t.Errorf("%s: there is no %q in\n%s", p.path, part, text)
				}
			}
			written[i] += string(text)
		}
	}
	if written[0] != written[1] {
		t.Error("the second time is not as the first")
	}
	for _, part := range []string{"| 38 |", "1 ms beside 2 ms"} {
		if !strings.Contains(written[0], part) {
			t.Errorf("there is no %q in\n%s", part, written[0])
		}
	}
	if strings.Contains(written[0], "old") {
		t.Error("the old block is still there")
	}
}
