package analyzer_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/seed841d8200/safeexec/analyzer"
)

func TestRules(t *testing.T) {
	analysistest.Run(t, analysistest.TestData(), analyzer.Analyzer, "rules", "allow", "generated")
}

func TestFixes(t *testing.T) {
	analysistest.RunWithSuggestedFixes(t, analysistest.TestData(), analyzer.Analyzer, "commands", "alone")
}

// The fixed code compiles with the package that it calls, whose signatures may have changed since.
func TestFixedCodeCompiles(t *testing.T) {
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	dir := t.TempDir()
	write(t, dir, "go.mod", "module fixed\n\ngo 1.26.0\n\nrequire github.com/seed841d8200/safeexec v0.0.0\n\n"+
		"replace github.com/seed841d8200/safeexec => "+root+"\n")
	copyFile(t, filepath.Join(root, "go.sum"), filepath.Join(dir, "go.sum"))

	golden, err := filepath.Glob("testdata/src/*/*.golden")
	require.NoError(t, err)
	require.NotEmpty(t, golden)
	calls := 0
	for _, from := range golden {
		to := filepath.Join(dir, strings.TrimPrefix(strings.TrimSuffix(from, ".golden"), "testdata/src/"))
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
		copyFile(t, from, to)
		text, err := os.ReadFile(to)
		require.NoError(t, err)
		calls += strings.Count(string(text), "safeexec.") + strings.Count(string(text), "bounded.")
	}
	require.Greater(t, calls, 10)
	compile := exec.CommandContext(t.Context(), "go", "build", "-mod=mod", "-buildvcs=false", "./...")
	compile.Dir = dir
	out, err := compile.CombinedOutput()
	require.NoError(t, err, "%s", out)
}

// The command is one that go vet runs.
func TestVetTool(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "safeexeccheck")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", tool, "./cmd/safeexeccheck")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)

	write(t, dir, "go.mod", "module m\n\ngo 1.26.0\n")
	write(t, dir, "m.go", "package m\n\nimport \"os/exec\"\n\nfunc Run() error {\n\treturn exec.Command(\"true\").Run()\n}\n")
	vet := func() (string, error) {
		cmd := exec.CommandContext(t.Context(), "go", "vet", "-vettool="+tool, "./...")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	text, err := vet()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Contains(t, text, "m.go:6:9: (*exec.Cmd).Run leaves the process tree of the command without a bound; use safeexec.Run")

	write(t, dir, "m.go", "package m\n\nimport \"os/exec\"\n\nfunc Run() error {\n"+
		"\treturn exec.Command(\"true\").Run() //safeexec:allow true(1) ends\n}\n")
	text, err = vet()
	require.NoError(t, err, text)
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(to, text, 0o600))
}
