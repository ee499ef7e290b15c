package arch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const modulePath = "github.com/seed841d8200/safeexec"

// TestModule checks the module that this package is part of.
func TestModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	m, err := load(root)
	require.NoError(t, err)
	require.Equal(t, modulePath, m.path)
	require.NotEmpty(t, m.files)

	found, err := check(root)
	require.NoError(t, err)
	assert.Empty(t, found, strings.Join(found, "\n"))
}

// TestRules breaks each rule in a small tree of its own, and only that rule; and shows beside it
// what the rule lets through.
func TestRules(t *testing.T) {
	const sys = `"` + modulePath + `/internal/sys"`
	const unix = `"golang.org/x/sys/unix"`
	const root = `"` + modulePath + `"`
	tests := []struct {
		name string
		rule string // "" where nothing is broken
		tree map[string]string
		at   string // how the only finding starts
	}{
		{"clean", "", map[string]string{
			"exec.go":                     "package safeexec\nimport \"os/exec\"\n",
			"exec_linux_test.go":          "//go:build linux\n\npackage safeexec\nimport " + unix + "\n",
			"internal/sys/a_linux.go":     "//go:build linux\n\npackage sys\nimport " + unix + "\n",
			"internal/proctree/a.go":      "package proctree\nimport " + sys + "\n",
			"internal/proctree/a_test.go": "package proctree_test\nimport " + root + "\n",
			"internal/drain/a.go":         "package drain\nimport \"io\"\n",
			"internal/drain/a_test.go":    "package drain\nimport \"go.uber.org/goleak\"\n",
			"internal/testproc/a.go":      "package testproc\nimport (\n" + unix + "\n\"go.uber.org/goleak\"\n)\n",
			"group/a.go":                  "package group\nimport " + root + "\n",
			"job/a.go":                    "package job\nimport (\n" + root + "\n" + sys + "\n)\n",
			"group/a_test.go":             "package group\nimport \"" + modulePath + "/internal/testproc\"\n",
			"examples/x/main.go":          "package main\nimport " + root + "\n",
		}, ""},
		{"unix outside sys", "one gate to the kernel", map[string]string{
			"internal/proctree/a.go": "package proctree\n\nimport " + unix + "\n",
		}, "internal/proctree/a.go:3:"},
		{"unix in the root", "one gate to the kernel", map[string]string{
			"exec.go": "package safeexec\nimport " + unix + "\n",
		}, "exec.go:2:"},
		{"unix in a file of another system", "one gate to the kernel", map[string]string{
			"internal/poll/a_plan9.go": "//go:build never\n\npackage poll\nimport _ " + unix + "\n",
		}, "internal/poll/a_plan9.go:4:"},
		{"unix below a package of a similar name", "one gate to the kernel", map[string]string{
			"internal/sysx/a.go": "package sysx\nimport " + unix + "\n",
		}, "internal/sysx/a.go:2:"},
		{"unix in a nested module", "", map[string]string{
			"internal/bench/go.mod": "module bench\n",
			"internal/bench/a.go":   "package bench\nimport (\n" + unix + "\n" + root + "\n)\n",
		}, ""},
		{"internal imports the root", "nothing internal imports the root", map[string]string{
			"internal/proctree/a.go": "package proctree\nimport (\n\t\"io\"\n\t" + root + "\n)\n",
		}, "internal/proctree/a.go:4:"},
		{"the root imports sys", "the root does not import sys", map[string]string{
			"killtree.go": "package safeexec\nimport s " + sys + "\n",
		}, "killtree.go:2:"},
		{"the root imports poll", "the root stands on the engine", map[string]string{
			"exec.go": "package safeexec\nimport (\n\"" + modulePath + "/internal/engine\"\n\"" + modulePath + "/internal/poll\"\n)\n",
		}, "exec.go:4:"},
		{"the root imports proctree", "the root stands on the engine", map[string]string{
			"exec.go": "package safeexec\nimport \"" + modulePath + "/internal/proctree\"\n",
		}, "exec.go:2:"},
		{"the ladder imports the streams", "the engine is the root's", map[string]string{
			"internal/engine/ladder/a.go": "package ladder\nimport \"" + modulePath + "/internal/engine/stdio\"\n",
			"internal/engine/stdio/a.go":  "package stdio\nimport \"" + modulePath + "/internal/engine/ladder\"\n",
			"internal/engine/a.go":        "package engine\nimport \"" + modulePath + "/internal/engine/ladder\"\n",
		}, "internal/engine/ladder/a.go:2:"},
		{"one method more than may be", "size of a type", map[string]string{
			"internal/drain/a.go": methodsOf(maxMethods + 1),
			"internal/poll/a.go":  methodsOf(maxMethods),
		}, "internal/drain: "},
		{"a long package", "size of a package", map[string]string{
			"internal/drain/a.go": "package drain\n" + strings.Repeat("\n", maxLines-1), "internal/drain/b.go": "package drain\n" + strings.Repeat("\n", maxLines-1),
			"internal/drain/c.go": "package drain\n" + strings.Repeat("\n", maxLines-1), "internal/drain/d.go": "package drain\n" + strings.Repeat("\n", maxLines-1),
			"internal/drain/e.go": "package drain\n" + strings.Repeat("\n", maxLines-1), "internal/drain/f.go": "package drain\n" + strings.Repeat("\n", maxLines-1),
			"internal/drain/g.go": "package drain\n" + strings.Repeat("\n", maxLines-1), "internal/drain/a_test.go": "package drain\n",
		}, "internal/drain: "},
		{"proctree imports the engine", "the engine is the root's", map[string]string{
			"internal/proctree/a.go": "package proctree\nimport \"" + modulePath + "/internal/engine\"\n",
		}, "internal/proctree/a.go:2:"},
		{"one file more in the root", "size of the root", rootOf(maxRootFiles + 1), ".: "},
		{"as many files in the root as may be", "", rootOf(maxRootFiles), ""},
		{"the root's tests import sys", "", map[string]string{
			"main_test.go": "package safeexec\nimport " + sys + "\n",
		}, ""},
		{"the root imports group", "packages beside the root", map[string]string{
			"exec.go": "package safeexec\nimport \"" + modulePath + "/group\"\n",
		}, "exec.go:2:"},
		{"the root imports job", "packages beside the root", map[string]string{
			"exec.go": "package safeexec\nimport \"" + modulePath + "/job\"\n",
		}, "exec.go:2:"},
		{"group imports what is internal", "packages beside the root", map[string]string{
			"group/a.go": "package group\nimport \"" + modulePath + "/internal/proctree\"\n",
		}, "group/a.go:2:"},
		{"a build tag in the root", "no build constraints in the root", map[string]string{
			"exec.go": "// Copyright.\n\n//go:build !never\n\npackage safeexec\n",
		}, "exec.go: "},
		{"a system in the name of a file", "no build constraints in the root", map[string]string{
			"exec_windows.go": "package safeexec\n",
		}, "exec_windows.go: "},
		{"an architecture in the name of a file", "no build constraints in the root", map[string]string{
			"exec_riscv64.go": "package safeexec\n",
		}, "exec_riscv64.go: "},
		{"a system as the whole name", "", map[string]string{
			"linux.go": "package safeexec\n",
		}, ""},
		{"drain imports a sibling", "standard library only", map[string]string{
			"internal/drain/a.go": "package drain\nimport " + sys + "\n",
		}, "internal/drain/a.go:2:"},
		{"another module outside tests", "test helpers stay in tests", map[string]string{
			"internal/sys/a.go": "package sys\nimport \"golang.org/x/sync/errgroup\"\n",
		}, "internal/sys/a.go:2:"},
		{"escalate imports x/sys", "standard library only", map[string]string{
			"internal/escalate/a.go": "package escalate\nimport \"golang.org/x/sys/cpu\"\n",
		}, "internal/escalate/a.go:2:"},
		{"cgo", "no cgo", map[string]string{
			"internal/sys/a_test.go": "package sys\nimport \"C\"\n",
		}, "internal/sys/a_test.go:2:"},
		{"helpers outside tests", "test helpers stay in tests", map[string]string{
			"exec.go": "package safeexec\nimport \"" + modulePath + "/internal/testproc\"\n",
		}, "exec.go:2:"},
		{"testify outside tests", "test helpers stay in tests", map[string]string{
			"internal/proctree/a.go": "package proctree\nimport \"github.com/stretchr/testify/assert\"\n",
		}, "internal/proctree/a.go:2:"},
		{"a long file", "file length", map[string]string{
			"exec.go":      "package safeexec\n" + strings.Repeat("\n", maxLines),
			"exec_test.go": "package safeexec\n" + strings.Repeat("\n", maxLines-1),
		}, "exec.go: "},
		{"a package called util", "package name", map[string]string{
			"internal/strings/a.go": "package util\n",
		}, "internal/strings/a.go: "},
		{"a directory called helper", "package name", map[string]string{
			"internal/helper/a_test.go": "package x_test\n",
		}, "internal/helper/a_test.go: "},
		{"one more requirement", "core dependencies", map[string]string{
			"go.mod": "module " + modulePath + "\n\nrequire (\n" +
				"\tgolang.org/x/sys v0.1.0\n\tgopkg.in/yaml.v3 v3.0.1 // indirect\n" +
				"\tgolang.org/x/sync v0.1.0 // for one line\n)\n",
		}, "go.mod:6: "},
		{"one more requirement on a line of its own", "core dependencies", map[string]string{
			"go.mod": "module " + modulePath + "\nrequire golang.org/x/net v0.1.0\n",
		}, "go.mod:2: "},
		{"a tool", "core dependencies", map[string]string{
			"go.mod": "module " + modulePath + "\ntool golang.org/x/tools/cmd/stringer\n",
		}, "go.mod:2: "},
		{"a replacement", "core dependencies", map[string]string{
			"go.mod": "module " + modulePath + "\nreplace (\n\tgolang.org/x/sys => ../sys\n)\n",
		}, "go.mod:3: "},
	}
	broken := map[string]bool{}
	for _, tt := range tests {
		broken[tt.rule] = true
		t.Run(tt.name, func(t *testing.T) {
			found, err := check(write(t, tt.tree))
			require.NoError(t, err)
			if tt.rule == "" {
				assert.Empty(t, found)
				return
			}
			require.Len(t, found, 1, strings.Join(found, "\n"))
			assert.Contains(t, found[0], ": "+tt.rule+": ")
			assert.Equal(t, tt.at, found[0][:min(len(tt.at), len(found[0]))], found[0])
		})
	}
	for _, r := range rules {
		assert.True(t, broken[r.name], "no case breaks %q", r.name)
	}
}

// TestUnreadable has a file that is no Go, which must not pass for one without imports.
func TestUnreadable(t *testing.T) {
	_, err := check(write(t, map[string]string{"exec.go": "import \"io\"\n"}))
	assert.Error(t, err)
	_, err = check(t.TempDir())
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// methodsOf is a file with a type of so many methods.
func methodsOf(n int) string {
	text := "package p\ntype T struct{}\n"
	for i := range n {
		text += fmt.Sprintf("func (*T) m%d() {}\n", i)
	}
	return text
}

// rootOf is a root of so many files.
func rootOf(n int) map[string]string {
	tree := map[string]string{}
	for i := range n {
		tree[fmt.Sprintf("a%d.go", i)] = "package safeexec\n"
	}
	return tree
}

// write lays out a module and returns its directory. A tree without go.mod gets a plain one.
func write(t *testing.T, tree map[string]string) string {
	t.Helper()
	root := t.TempDir()
	if _, ok := tree["go.mod"]; !ok {
		require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module "+modulePath+"\n"), 0o600))
	}
	for name, text := range tree {
		full := filepath.Join(root, filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o700))
		require.NoError(t, os.WriteFile(full, []byte(text), 0o600))
	}
	return root
}
