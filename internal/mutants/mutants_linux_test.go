// Package mutants shows that the tests of the core notice when it is wrong: it changes the source in one place, by
// the -overlay of the go command, and the tests that are named beside the change have to fail.
//
// These are the changes that no tool makes: a step that is left out or comes too early, a question that is not asked
// again, a veto turned around. README.md has those of a tool.
package mutants

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

// A mutant is a change of the source, and what has to notice it.
type mutant struct {
	name     string
	file     string // from the folder internal
	old, new string // old occurs once in the file
	tests    string // a regular expression of tests of the package, or of that in the folder in
	in       string // from the folder internal
	off      string // the fast paths that are off, as in SAFEEXEC_TEST_DISABLE
	lives    string // instead of tests: why none can notice it
}

// mutated returns the text of the mutant's file.
func (m mutant) mutated(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(m.path())
	require.NoError(t, err)
	require.Equal(t, 1, strings.Count(string(text), m.old), "how often %q occurs in %s", m.old, m.file)
	return strings.Replace(string(text), m.old, m.new, 1)
}

func (m mutant) path() string { return filepath.Join("..", filepath.FromSlash(m.file)) }

// folder returns the folder of the tests.
func (m mutant) folder() string {
	if m.in == "" {
		return filepath.Dir(m.path())
	}
	return filepath.Join("..", filepath.FromSlash(m.in))
}

// TestMutants shows that each mutant can still be made of the source, and in a soak that its tests fail then and
// not otherwise.
func TestMutants(t *testing.T) {
	testproc.HasProgram(t, "go")
	dir := t.TempDir()
	sound := make(map[string]string) // the tests of each package without a change
	for _, m := range slices.Concat(mutants, procfsMutants, pipeMutants) {
		t.Run(m.file+"/"+m.name, func(t *testing.T) {
			text := m.mutated(t)
			if m.lives != "" {
				t.Log("it lives: ", m.lives)
				return
			}
			if !testproc.Soaking() {
				return
			}
			folder := m.folder()
			if sound[folder] == "" {
				sound[folder] = filepath.Join(dir, filepath.Base(folder)+".test")
				build(t, folder, sound[folder])
			}
			out, err := m.run(t, sound[folder])
			require.NoError(t, err, "without the change: %s", out)
			require.NotContains(t, out, "--- SKIP")
			require.Contains(t, out, "--- PASS", "no test is called so")

			changed := filepath.Join(dir, "changed.go")
			require.NoError(t, os.WriteFile(changed, []byte(text), 0o666))
			source, err := filepath.Abs(m.path())
			require.NoError(t, err)
			overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: changed}})
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o666))
			mutant := filepath.Join(dir, "mutant.test")
			build(t, folder, mutant, "-overlay", filepath.Join(dir, "overlay.json"))
			out, err = m.run(t, mutant)
			assert.Equal(t, killed, judge(out, err), "%s", out)
		})
	}
}

// A verdict is what a run of a mutant's tests says about it.
type verdict string

const (
	killed   verdict = "killed"        // one of its tests failed
	lives    verdict = "lives"         // they passed
	timedOut verdict = "timed out"     // they did not end, which may be the machine's fault
	broken   verdict = "other failure" // they passed or had no result, and the program failed: a leak, a crash
)

// judge returns the verdict on a mutant, by the output of its tests and how they ended. Only the mutant's tests run, so
// any that fails is one of them.
func judge(out string, err error) verdict {
	switch {
	case err == nil:
		return lives
	case strings.Contains("\n"+out, "\npanic: test timed out"):
		return timedOut
	case strings.Contains("\n"+out, "\n--- FAIL: Test"):
		return killed
	}
	return broken
}

func TestJudge(t *testing.T) {
	failed := errors.New("exit status 1")
	for out, want := range map[string]verdict{
		"--- FAIL: TestX (0.00s)\nFAIL\n":                                 killed,
		"=== RUN   TestX\n    x_test.go:1: no\n--- FAIL: TestX (0.00s)\n": killed,
		"--- FAIL: TestX (0.00s)\npanic: index out of range\n":            killed,
		"--- FAIL: TestX (0.00s)\npanic: test timed out after 2m0s\n":     timedOut,
		"=== RUN   TestX\npanic: test timed out after 2m0s\n":             timedOut,
		"=== RUN   TestX\npanic: close of closed channel\n":               broken,
		"--- PASS: TestX (0.00s)\nPASS\ntestproc: descriptor 9 is left\n": broken,
		"    --- FAIL: quoted by a test\n--- PASS: TestX (0.00s)\n":       broken,
		"": broken,
	} {
		assert.Equal(t, want, judge(out, failed), "%q", out)
		assert.Equal(t, lives, judge(out, nil), "%q", out)
	}
}

// build builds the tests of the package in a folder. A mutant that does not compile ends its test here: it is not
// killed.
func build(t *testing.T, folder, program string, flags ...string) {
	t.Helper()
	args := append([]string{"test", "-c", "-vet=off", "-ldflags=-w", "-o", program}, flags...)
	out, err := exec.CommandContext(testproc.WholeDeadline(t), "go", append(args, folder)...).CombinedOutput()
	require.NoError(t, err, "it does not compile: %s", out)
}

// run makes a run of the mutant's tests.
func (m mutant) run(t *testing.T, program string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(testproc.WholeDeadline(t), program, "-test.v", "-test.timeout=2m", "-test.run", "^("+m.tests+")$")
	cmd.Dir = m.folder()
	cmd.Env = append(os.Environ(), testproc.DisableVariable+"="+m.off, testproc.SoakVariable+"=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
