// Package arch holds the rules of the module's layout, as tests. Imports are read with go/parser
// from every file, whatever its build tags: a linter sees the files of one platform only.
package arch

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/build"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	unixPackage = "golang.org/x/sys/unix"
	maxLines    = 450
)

// bannedNames say nothing about what a package holds.
var bannedNames = []string{
	"util", "utils", "common", "helper", "helpers", "misc", "manager", "handler",
}

// coreRequirements is all that go.mod may require directly: what users of the package get is
// x/sys, the other two are for its tests.
var coreRequirements = []string{
	"golang.org/x/sys", "github.com/stretchr/testify", "go.uber.org/goleak",
}

// stdlibOnly are the packages that are pure timing and pure copying.
var stdlibOnly = []string{"internal/drain", "internal/escalate"}

// besideRoot are the packages that are built on the root, and onFace those of them that know its public face alone.
// A job outlives its run, so that package job starts and ends processes itself.
var (
	besideRoot = []string{"group", "guard", "job"}
	onFace     = []string{"group"}
)

// belowRoot are all packages that the root may import: its engine, and what is no part of a run, which are parsers, lists
// and texts. How a tree is found and a pipe is read is the engine's.
var belowRoot = []string{
	"internal/diagnose", "internal/engine", "internal/fdtable", "internal/lines", "internal/redact", "internal/repeats",
	"internal/seam",
}

// The engine's own parts, which it alone stands on.
const (
	ladderDir = "internal/engine/ladder"
	stdioDir  = "internal/engine/stdio"
)

// A rule looks at the whole module and reports what breaks it.
type rule struct {
	name  string
	check func(m *module, report func(pos, format string, args ...any))
}

var rules = []rule{
	{"one gate to the kernel", oneGate},
	{"nothing internal imports the root", noUpwardImport},
	{"the root does not import sys", rootWithoutSys},
	{"the root stands on the engine", rootOnEngine},
	{"the engine is the root's", engineBelowRoot},
	{"size of the root", rootSize},
	{"size of a type", typeSize},
	{"size of a package", packageSize},
	{"packages beside the root", onPublicFace},
	{"no build constraints in the root", rootPortable},
	{"standard library only", onlyStdlib},
	{"no cgo", noCgo},
	{"test helpers stay in tests", testOnly},
	{"core dependencies", coreDependencies},
	{"file length", fileLength},
	{"package name", packageName},
}

// check returns what breaks the rules below root, a module's directory, in a stable order.
func check(root string) ([]string, error) {
	m, err := load(root)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, r := range rules {
		r.check(m, func(pos, format string, args ...any) {
			found = append(found, fmt.Sprintf("%s: %s: %s", pos, r.name, fmt.Sprintf(format, args...)))
		})
	}
	slices.Sort(found)
	return found, nil
}

func oneGate(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		if within(imp.path, unixPackage) && f.dir != "internal/sys" && !f.test {
			report(imp.pos, "only internal/sys and tests import %s", imp.path)
		}
	}
}

func noUpwardImport(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		if within(f.dir, "internal") && !f.test && imp.path == m.path {
			report(imp.pos, "%s imports the root", f.dir)
		}
	}
}

func rootWithoutSys(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		if f.dir == "." && !f.test && within(imp.path, m.path+"/internal/sys") {
			report(imp.pos, "the root goes through the package that owns the verb, not through sys")
		}
	}
}

func rootOnEngine(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		if f.dir == "." && !f.test && within(imp.path, m.path+"/internal") &&
			!within(imp.path, m.path+"/internal/sys") && !within(imp.path, m.path+"/internal/testproc") &&
			!slices.Contains(belowRoot, strings.TrimPrefix(imp.path, m.path+"/")) {
			report(imp.pos, "the root leaves %s to internal/engine", imp.path)
		}
	}
}

func engineBelowRoot(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		if f.test || !within(imp.path, m.path+"/internal/engine") {
			continue
		}
		switch from, to := f.dir, strings.TrimPrefix(imp.path, m.path+"/"); {
		case from == ".": // see rootOnEngine
		case from == "internal/engine":
		case from == stdioDir && to == ladderDir:
		default:
			report(imp.pos, "%s imports %s", from, to)
		}
	}
}

// onPublicFace has a package beside the root import the root and nothing else of the module, and the root
// import none of them.
func onPublicFace(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		if f.test {
			continue
		}
		for _, dir := range besideRoot {
			switch {
			case f.dir == "." && within(imp.path, m.path+"/"+dir):
				report(imp.pos, "the root imports %s", imp.path)
			case within(f.dir, dir) && slices.Contains(onFace, dir) && within(imp.path, m.path) && imp.path != m.path:
				report(imp.pos, "%s imports %s", f.dir, imp.path)
			}
		}
	}
}

func rootPortable(m *module, report func(pos, format string, args ...any)) {
	for _, f := range m.files {
		if f.dir == "." && !f.test && f.constraint != "" {
			report(f.path, "has the build constraint %s", f.constraint)
		}
	}
}

func onlyStdlib(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		pure := slices.ContainsFunc(stdlibOnly, func(dir string) bool { return within(f.dir, dir) })
		if pure && !f.test && !m.std(imp.path) {
			report(imp.pos, "%s imports %s", f.dir, imp.path)
		}
	}
}

func noCgo(m *module, report func(pos, format string, args ...any)) {
	for _, imp := range m.imports() {
		if imp.path == "C" {
			report(imp.pos, "cgo needs a C compiler and C libraries")
		}
	}
}

func testOnly(m *module, report func(pos, format string, args ...any)) {
	for f, imp := range m.imports() {
		switch {
		case f.test || m.std(imp.path):
		case within(imp.path, m.path+"/internal/testproc"):
			report(imp.pos, "only tests import internal/testproc")
		case !within(imp.path, m.path) && !within(imp.path, coreRequirements[0]):
			report(imp.pos, "only tests import %s", imp.path)
		}
	}
}

func coreDependencies(m *module, report func(pos, format string, args ...any)) {
	for _, r := range m.requires {
		if !r.indirect && !slices.Contains(coreRequirements, r.path) {
			report(r.pos, "requires %s", r.path)
		}
	}
	for _, d := range m.directives {
		// A tool would bring requirements in under the name of indirect ones; a replacement holds
		// for us and not for our users.
		if d.name == "tool" || d.name == "replace" {
			report(d.pos, "has a %s directive", d.name)
		}
	}
}

func fileLength(m *module, report func(pos, format string, args ...any)) {
	for _, f := range m.files {
		if f.lines > maxLines {
			report(f.path, "%d lines are more than %d", f.lines, maxLines)
		}
	}
}

func packageName(m *module, report func(pos, format string, args ...any)) {
	for _, f := range m.files {
		for _, name := range []string{strings.TrimSuffix(f.pkg, "_test"), path.Base(f.dir)} {
			if slices.Contains(bannedNames, name) {
				report(f.path, "package %s does not say what it holds", name)
				break
			}
		}
	}
}

// A module is what the rules look at: the Go files of one module, without nested modules, vendored
// code, testdata and the directories that the go command ignores.
type module struct {
	path       string
	files      []*file
	requires   []requirement
	directives []directive
}

type file struct {
	path, dir  string // slash-separated, relative to the module's root
	pkg        string
	test       bool // a _test.go file, or one of internal/testproc, which only tests import
	lines      int
	constraint string // "" if the file is built everywhere
	imports    []imported
	methods    []method
}

type imported struct{ path, pos string }

type method struct{ of, name string }

type requirement struct {
	path, pos string
	indirect  bool
}

type directive struct{ name, pos string }

// imports yields every import of every file.
func (m *module) imports() func(yield func(*file, imported) bool) {
	return func(yield func(*file, imported) bool) {
		for _, f := range m.files {
			for _, imp := range f.imports {
				if !yield(f, imp) {
					return
				}
			}
		}
	}
}

// std reports whether importPath belongs to the standard library, whose first element has no dot.
func (m *module) std(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".") && !within(importPath, m.path)
}

// within reports whether p is dir or below it; both are slash-separated.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func load(root string) (*module, error) {
	m := &module{}
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, err
	}
	m.readGoMod(string(gomod))
	err = filepath.WalkDir(root, func(full string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, full)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel != "." && ignored(full, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(d.Name(), ".go") || ignored("", d.Name()) {
			return nil
		}
		f, err := loadFile(full, filepath.ToSlash(rel))
		if err == nil {
			m.files = append(m.files, f)
		}
		return err
	})
	return m, err
}

// ignored reports whether the go command skips the name, or dir is a module of its own.
func ignored(dir, name string) bool {
	if strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	if dir == "" {
		return false
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil || name == "testdata" || name == "vendor"
}

func loadFile(full, rel string) (*file, error) {
	src, err := os.ReadFile(full)
	if err != nil {
		return nil, err
	}
	fset := token.NewFileSet()
	syntax, err := parser.ParseFile(fset, rel, src, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return nil, err
	}
	f := &file{
		path: rel, dir: path.Dir(rel), pkg: syntax.Name.Name,
		test:       strings.HasSuffix(rel, "_test.go") || within(path.Dir(rel), "internal/testproc"),
		lines:      bytes.Count(src, []byte("\n")),
		constraint: cmp.Or(tagConstraint(syntax), nameConstraint(path.Base(rel))),
	}
	for _, d := range syntax.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv != nil {
			f.methods = append(f.methods, method{receiver(fn.Recv.List[0].Type), fn.Name.Name})
		}
	}
	for _, spec := range syntax.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, err
		}
		line := fset.Position(spec.Pos()).Line
		f.imports = append(f.imports, imported{path: p, pos: fmt.Sprintf("%s:%d", rel, line)})
	}
	return f, nil
}

// tagConstraint returns the //go:build line above the package clause, if there is one.
func tagConstraint(syntax *ast.File) string {
	for _, group := range syntax.Comments {
		for _, c := range group.List {
			if c.Pos() < syntax.Package && constraint.IsGoBuild(c.Text) {
				return c.Text
			}
		}
	}
	return ""
}

// nameConstraint returns the file's name if its ending limits it to a system or an architecture.
// It asks go/build about a system that does not exist, so that the list of known ones is not ours.
func nameConstraint(name string) string {
	nowhere := build.Context{GOOS: "none", GOARCH: "none", Compiler: "gc"}
	nowhere.OpenFile = func(string) (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader("package p\n")), nil
	}
	if match, err := nowhere.MatchFile(".", name); err != nil || !match {
		return name
	}
	return ""
}

// readGoMod reads as much of go.mod as the rules need.
func (m *module) readGoMod(text string) {
	block := ""
	n := 0
	for line := range strings.Lines(text) {
		n++
		code, comment, _ := strings.Cut(line, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		pos := fmt.Sprintf("go.mod:%d", n)
		m.directives = append(m.directives, directive{name: words[0], pos: pos})
		switch {
		case len(words) < 2:
		case words[0] == "module":
			m.path = words[1]
		case words[0] == "require":
			m.requires = append(m.requires, requirement{
				path: words[1], pos: pos,
				indirect: strings.HasPrefix(strings.TrimSpace(comment), "indirect"),
			})
		}
	}
}
