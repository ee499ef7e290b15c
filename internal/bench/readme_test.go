package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestREADME holds the figures of the project's README to be those of the committed results.
func TestREADME(t *testing.T) {
	r, err := readReport(publishedResults)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(projectREADME)
	if err != nil {
		t.Fatal(err)
	}
	_, block, _, err := cutBlock(text)
	if err != nil {
		t.Fatal(err)
	}
	if want := r.block(); string(block) != want {
		t.Errorf("the README does not show what %s holds (go run . -render writes it):\n%s", publishedResults, firstDifference(string(block), want))
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
		if want != nil && (err != nil || !bytes.Equal(got, want)) {
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

// TestPublish has the block written where the markers are and nowhere else, twice the same.
func TestPublish(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "internal", "bench")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	readme := filepath.Join(root, "README.md")
	var r report
	r.Environment = newEnvironment()
	if r.publish(dir) == nil || publishable(dir) == nil {
		t.Error("published without a README")
	}
	if err := os.WriteFile(readme, []byte("no block"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r.publish(dir) == nil || publishable(dir) == nil {
		t.Error("published without markers")
	}
	if err := os.WriteFile(readme, []byte("above\n"+blockBegin+"\nold\n"+blockEnd+"\nbelow\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.addValues("allocs", "program=noop", subject, allocsOp, "", 38)
	var written [2]string
	for i := range written {
		if err := r.publish(dir); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(readme)
		if err != nil {
			t.Fatal(err)
		}
		written[i] = string(text)
	}
	if written[0] != written[1] {
		t.Error("the second time is not as the first")
	}
	for _, part := range []string{"above\n" + blockBegin, blockEnd + "\nbelow\n", "| 38 |"} {
		if !strings.Contains(written[0], part) {
			t.Errorf("there is no %q in\n%s", part, written[0])
		}
	}
	if strings.Contains(written[0], "old") {
		t.Error("the old block is still there")
	}
}
