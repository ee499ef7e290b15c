// Table writes into docs/kernels.md what .ci/kernels has printed:
//
//	.ci/kernels >kernels.out; go run ./internal/kernels/table kernels.out
//
// Each kernel may have an output of its own, or several, which add up: on a slow machine the packages of one do not all
// fit in the time of a run. One of a run that failed is refused.
package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

const (
	document = "docs/kernels.md"
	begin    = "<!-- kernels:begin -->\n"
	end      = "<!-- kernels:end -->\n"
	notice   = "<!-- Written by `go run ./internal/kernels/table` from what `.ci/kernels` prints: not by hand. -->\n\n"
)

func main() {
	if err := write(document, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "table:", err)
		os.Exit(1)
	}
}

func write(document string, outputs []string) error {
	var all []kernel
	for _, name := range outputs {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if all, err = read(all, string(text)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	text, err := os.ReadFile(document)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), begin)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return fmt.Errorf("%s: no place for the table", document)
	}
	table, err := format(all)
	if err != nil {
		return err
	}
	return os.WriteFile(document, []byte(before+begin+table+end+after), 0o600)
}

// A kernel is what its machine printed.
type kernel struct {
	version, name, date string
	facts               []string
	has                 map[string]bool
	binaries            []string
	counts              [3]int         // passed, failed, skipped
	skipped             map[string]int // by the reason
}

var binary = regexp.MustCompile(`^  /(\S+)\.test: ok, `)

const counts = "  %d passed, %d failed, %d skipped"

var skip = regexp.MustCompile(`^  skipped: \S+: (.*)$`)

// read adds an output of .ci/kernels to what was read of others.
func read(all []kernel, text string) ([]kernel, error) {
	last := -1
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if version, ok := strings.CutPrefix(line, "== Linux "); ok {
			version = strings.TrimSuffix(version, " ==")
			if last = slices.IndexFunc(all, func(k kernel) bool { return k.version == version }); last < 0 {
				last = len(all)
				all = append(all, kernel{version: version, has: map[string]bool{}, skipped: map[string]int{}})
			}
			continue
		}
		if strings.HasPrefix(line, "FAILED: ") {
			return nil, errors.New(line)
		}
		if last < 0 {
			continue
		}
		k := &all[last]
		switch m := skip.FindStringSubmatch(line); {
		case m != nil:
			k.skipped[m[1]]++
		case binary.MatchString(line):
			name := "`" + binary.FindStringSubmatch(line)[1] + "`"
			if slices.Contains(k.binaries, name) {
				return nil, fmt.Errorf("%s of Linux %s is there twice", name, k.version)
			}
			k.binaries = append(k.binaries, name)
		case strings.HasPrefix(line, "  on "):
			k.date = line[len("  on "):]
		case strings.HasPrefix(line, "in force: "):
			for _, word := range strings.Fields(line)[2:] {
				name, value, _ := strings.Cut(word, "=")
				if name == "kernel" {
					k.name = value
					continue
				}
				k.facts = append(k.facts, name)
				k.has[name] = value == "true"
			}
		case strings.Contains(line, " passed, "):
			var n [3]int
			_, _ = fmt.Sscanf(line, counts, &n[0], &n[1], &n[2])
			for i := range n {
				k.counts[i] += n[i]
			}
		}
	}
	return all, nil
}

// format makes the tables. All kernels must have been asked for the same.
func format(all []kernel) (string, error) {
	if len(all) == 0 {
		return "", errors.New("no kernel")
	}
	for _, k := range all {
		if k.date == "" || k.name == "" || k.counts == [3]int{} || !slices.Equal(k.facts, all[0].facts) {
			return "", fmt.Errorf("linux %s: not all is told, or other things than of Linux %s", k.version, all[0].version)
		}
	}
	var b strings.Builder
	row := func(first string, cell func(k kernel) string) {
		b.WriteString("| " + first + " |")
		for _, k := range all {
			b.WriteString(" " + cell(k) + " |")
		}
		b.WriteString("\n")
	}
	head := func(first string) {
		row(first, func(k kernel) string { return "Linux " + k.version })
		row("---", func(kernel) string { return "---" })
	}
	b.WriteString(notice)
	head("in force")
	for _, name := range all[0].facts {
		row("`"+name+"`", func(k kernel) string {
			if k.has[name] {
				return "yes"
			}
			return "no"
		})
	}
	b.WriteString("\n")
	head("tests, with their parts")
	row("kernel", func(k kernel) string { return k.name })
	row("on", func(k kernel) string { return k.date })
	row("outcome", func(k kernel) string {
		return strings.TrimSpace(fmt.Sprintf(counts, k.counts[0], k.counts[1], k.counts[2]))
	})
	row("of", func(k kernel) string { return strings.Join(k.binaries, ", ") })
	reasons := map[string]bool{}
	for _, k := range all {
		for reason := range k.skipped {
			reasons[reason] = true
		}
	}
	b.WriteString("\n")
	head("skipped, as the test says why")
	for _, reason := range sorted(reasons) {
		row(strings.ReplaceAll(reason, "|", `\|`), func(k kernel) string { return fmt.Sprint(k.skipped[reason]) })
	}
	return b.String(), nil
}

func sorted(set map[string]bool) []string {
	var names []string
	for name := range set {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
