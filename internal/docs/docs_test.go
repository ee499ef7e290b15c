// Package docs holds the documents to what they say: links lead somewhere, names exist, and commands can be
// run.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const root = "../.."

// documents returns the paths of the documents for users, from the root.
func documents(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.md", "docs/*.md"} {
		paths, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		found = append(found, paths...)
	}
	require.Greater(t, len(found), 5)
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(text)
}

// The README is read in a few minutes.
func TestREADMEIsShort(t *testing.T) {
	assert.LessOrEqual(t, len(strings.Fields(read(t, filepath.Join(root, "README.md")))), 900)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestLinks(t *testing.T) {
	for _, path := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(read(t, path), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(to); !assert.NoErrorf(t, err, "%s links to %s", path, m[1]) || anchor == "" {
				continue
			}
			assert.Containsf(t, anchors(read(t, to)), anchor, "%s links to %s", path, m[1])
		}
	}
}

// anchors returns the names that a heading can be linked by: lower case, spaces as hyphens, without
// punctuation.
func anchors(text string) []string {
	var names []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		heading := strings.ToLower(strings.TrimSpace(strings.TrimLeft(line, "#")))
		names = append(names, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return r
			}
			return -1
		}, heading))
	}
	return names
}

// declared returns what the packages below dir export, methods and fields as Type.Name, and all test
// functions.
func declared(t *testing.T) (exported, tests map[string]bool) {
	t.Helper()
	exported, tests = map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		public := !strings.Contains(filepath.ToSlash(path), "/internal/") && !strings.HasSuffix(path, "_test.go")
		for _, decl := range file.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if strings.HasSuffix(path, "_test.go") {
					tests[decl.Name.Name] = true
				}
				if public {
					exported[decl.Name.Name] = true
				}
			case *ast.GenDecl:
				if public {
					for _, name := range names(decl) {
						exported[name] = true
					}
				}
			}
		}
		return nil
	})
	require.NoError(t, err)
	return exported, tests
}

// names returns what a declaration declares, fields of structs and methods of interfaces included.
func names(decl ast.Decl) []string {
	var found []string
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			found = append(found, n.Name.Name)
		case *ast.ValueSpec:
			for _, name := range n.Names {
				found = append(found, name.Name)
			}
		case *ast.Field:
			for _, name := range n.Names {
				found = append(found, name.Name)
			}
		}
		return true
	})
	return found
}

var (
	code     = regexp.MustCompile("`[^`\n]+`")
	ours     = regexp.MustCompile(`\b([a-z]+\.)?([A-Z]\w*)`)
	kinds    = regexp.MustCompile(`^(?:With|Err|Track|Containment|Background|FD|Overflow)[A-Z]`)
	testName = regexp.MustCompile(`\bTest[A-Z]\w*`)
)

// A name of ours in the documents is one of the API, and a test that is named exists.
func TestNames(t *testing.T) {
	exported, tests := declared(t)
	for _, path := range documents(t) {
		text := read(t, path)
		for _, word := range append(code.FindAllString(text, -1), blocks(text, "go")...) {
			for _, m := range ours.FindAllStringSubmatch(word, -1) {
				if m[1] == "safeexec." || m[1] == "" && kinds.MatchString(m[2]) {
					assert.Truef(t, exported[m[2]], "%s: %s does not exist", path, m[0])
				}
			}
			for _, name := range testName.FindAllString(word, -1) {
				assert.Truef(t, tests[name], "%s: there is no test %s", path, name)
			}
		}
	}
}

// blocks returns the code blocks of a language.
func blocks(text, language string) []string {
	var found []string
	for _, part := range strings.Split(text, "```"+language+"\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		found = append(found, block)
	}
	return found
}

// Go code in the documents is Go: each block parses, as a file or as the body of a function.
func TestGoBlocks(t *testing.T) {
	for _, path := range documents(t) {
		for _, block := range blocks(read(t, path), "go") {
			source := "package p\n" + block
			if _, err := parser.ParseFile(token.NewFileSet(), "", source, 0); err != nil {
				source = "package p\nfunc f() {\n" + block + "\n}"
			}
			_, err := parser.ParseFile(token.NewFileSet(), "", source, 0)
			assert.NoErrorf(t, err, "%s:\n%s", path, block)
		}
	}
}

// A program that the documents have somebody run is there.
func TestCommands(t *testing.T) {
	program := regexp.MustCompile(`go (?:run|test) (?:-\S+ )*\./(\S+)|^(\.ci/\S+)`)
	count := 0
	for _, path := range documents(t) {
		for _, block := range blocks(read(t, path), "sh") {
			for line := range strings.Lines(block) {
				m := program.FindStringSubmatch(line)
				if len(m) == 0 || m[1] == "..." {
					continue
				}
				count++
				_, err := os.Stat(filepath.Join(root, m[1]+m[2]))
				assert.NoErrorf(t, err, "%s: %s", path, line)
			}
		}
	}
	assert.Positive(t, count)
}
