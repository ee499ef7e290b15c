// Package model has the logic of package proctree end trees on a simulated kernel: thousands of runs a second, each of
// one seed.
//
// The logic is the real one. Its source is compiled with the imports changed that reach the kernel, by the -overlay
// of the go command, so that nothing in it makes room for a test. In the same way faults are planted in it, which
// the model has to find.
package model

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

const (
	module = "github.com/seed841d8200/safeexec/internal/"
	fakes  = module + "model/testdata/"
)

// left out are the files that the model has no use for.
var leftOut = map[string]bool{"holders.go": true, "limits_linux.go": true, "limits_other.go": true}

// A fault is a mend that is taken out again: what stands for old where it is planted.
type fault struct{ name, file, old, new string }

// planted is the condition of a fault.
func (f fault) planted() string { return fmt.Sprintf("kernel.Planted(%q)", f.name) }

var keep = flag.String("keep", "", "where to leave the program, which makes one seed's run again")

var faults = []fault{
	{"nobody is asked again once the pidfd is open", "member.go",
		"if t.judge(pid, from) != ours || pid == os.Getpid() {", "if !PLANTED && t.judge(pid, from) != ours || pid == os.Getpid() {"},
	{"nothing is asked before a signal by number", "signal.go",
		"case t.judge(m.PID, birthWindow) != ours && t.dead(m):", "case !PLANTED && t.judge(m.PID, birthWindow) != ours && t.dead(m):"},
	{"start times are not compared", "member.go",
		"return !st.Alive() || st.StartTime != m.Start", "return !st.Alive() || !PLANTED && st.StartTime != m.Start"},
	{"births during a look are not followed", "birth.go",
		"	l.toldAll()\n	lists := 0\n", "	l.toldAll()\n	if PLANTED {\n		return true\n	}\n	lists := 0\n"},
	{"the limit mark alone excludes", "marklimit.go",
		"	if c.byLimit != m.id || liveCount() > 1 {\n", "	if PLANTED && c.byLimit != m.id {\n		return foreign\n	}\n	if c.byLimit != m.id || liveCount() > 1 {\n"},
	{"every window is sound", "birth.go",
		"return elapsed > 0 && elapsed < lapTime(pidMax, cpus)", "return PLANTED || elapsed > 0 && elapsed < lapTime(pidMax, cpus)"},
	{"an error of waitid is an exit", "leader.go",
		"	if now != unsure {\n		return now\n	}\n	if t.process == nil", "	if now != unsure {\n		return now\n	}\n	if PLANTED {\n		return reaped\n	}\n	if t.process == nil"},
	{"whoever is found after a kill is not killed", "signal.go",
		"	for _, m := range t.newestFirst() {\n		send(m)\n", "	for _, m := range t.newestFirst() {\n		if PLANTED && t.killing {\n			m.killed = true\n			continue\n		}\n		send(m)\n"},
}

// reset makes a package proctree as it is when a program begins, and one that does everything in an order.
const reset = `package proctree

import (
	"iter"
	"maps"
	"slices"
)

func Reset() {
	pids = sequence{read: readLastPID}
	pidMax.value.Store(0)
	cpus.value.Store(0)
	clear(liveRuns.ids)
	clear(liveRuns.leaders)
	liveRuns.slice = 0
	noSlices.Store(false)
	for i := range leaders {
		leaders[i].Store(0)
	}
	ownStartTime.Store(0)
	readings = newKeeper()
}

func ordered(members map[int]*Member) iter.Seq2[int, *Member] {
	return func(yield func(int, *Member) bool) {
		for _, pid := range slices.Sorted(maps.Keys(members)) {
			if m, ok := members[pid]; ok && !yield(pid, m) {
				return
			}
		}
	}
}
`

var (
	kernelImport = regexp.MustCompile(`"` + regexp.QuoteMeta(module) + `(sys|procfs)"`)
	stdImport    = regexp.MustCompile(`(?m)^\t"(os|time)"$`)
)

// transform makes the source of a file of proctree that of the model's.
func transform(name, text string) (string, error) {
	text = kernelImport.ReplaceAllString(text, `"`+fakes+`$1"`)
	text = stdImport.ReplaceAllString(text, "\t\""+fakes+`$1"`)
	text = strings.ReplaceAll(text, `"math/rand/v2"`, `"`+fakes+`rand"`)
	text = strings.ReplaceAll(text, "range t.members {", "range ordered(t.members) {")
	planted := false
	for _, f := range faults {
		if f.file != name {
			continue
		}
		if strings.Count(text, f.old) != 1 {
			return "", fmt.Errorf("%s: %q is not to be planted in %s", f.name, f.old, name)
		}
		text = strings.Replace(text, f.old, strings.ReplaceAll(f.new, "PLANTED", f.planted()), 1)
		planted = true
	}
	if planted {
		text = strings.Replace(text, "import (\n", "import (\n\t\""+fakes+"kernel\"\n", 1)
	}
	return text, nil
}

var directory string // for what is built

// sources are the packages whose source is changed: what proctree shares between trees has their clock.
var sources = []string{"proctree", "census"}

// build builds the program that makes the runs, with all faults in it.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "model")
	if err != nil {
		return "", err
	}
	directory = dir
	replace := make(map[string]string)
	put := func(file, text string) error {
		copied := filepath.Join(dir, fmt.Sprint(len(replace), ".go"))
		replace[file] = copied
		return os.WriteFile(copied, []byte(text), 0o666)
	}
	above, err := filepath.Abs("..")
	if err != nil {
		return "", err
	}
	var files []string
	for _, source := range sources {
		found, err := filepath.Glob(filepath.Join(above, source, "*.go"))
		if err != nil {
			return "", err
		}
		files = append(files, found...)
	}
	for _, file := range files {
		name := filepath.Base(file)
		switch {
		case strings.HasSuffix(name, "_test.go"):
			continue
		case leftOut[name]:
			replace[file] = ""
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		changed, err := transform(name, string(text))
		if err != nil {
			return "", err
		}
		if err := put(file, changed); err != nil {
			return "", err
		}
	}
	if err := put(filepath.Join(above, "proctree", "reset.go"), reset); err != nil {
		return "", err
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o666); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "life")
	if *keep != "" {
		program = *keep
	}
	out, err := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program,
		"./testdata/life").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return program, nil
})

// live makes runs, and returns what was said of them.
func live(t *testing.T, args ...string) (string, error) {
	t.Helper()
	testproc.HasProgram(t, "go")
	program, err := build()
	require.NoError(t, err)
	out, err := exec.CommandContext(testproc.WholeDeadline(t), program, args...).CombinedOutput()
	return string(out), err
}

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

// TestModel makes runs without a fault.
func TestModel(t *testing.T) {
	seed, count := "1", "500"
	if testproc.Soaking() {
		seed, count = fmt.Sprint(time.Now().UnixNano()%1e12), "50000"
	}
	out, err := live(t, "-seed", seed, "-count", count)
	require.NoError(t, err, out)
	t.Log(out)
}

// TestPlantedFaults shows that the model finds each.
func TestPlantedFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			out, err := live(t, "-fault", f.name, "-count", "3000")
			require.Error(t, err, out)
			assert.Regexp(t, `^seed |trees that are gone`, out, "and nothing else is the reason")
			t.Log(out)
		})
	}
}
