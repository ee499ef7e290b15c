package arch

import (
	"go/ast"
	"strings"
)

// maxRootFiles is how many files without tests the root may have, and maxMethods how many methods a type.
const (
	maxRootFiles = 14
	maxMethods   = 30
)

// wideTypes have more, as many as this and never more.
var wideTypes = map[string]int{"internal/drain Output": 32}

// maxPackageLines is how long a package may be, without tests. Those that are longer say why.
const maxPackageLines = 3000

var longPackages = map[string]string{
	".":                 "the docs of all that a user calls are two thirds of it",
	"internal/proctree": "the tracks check each other: apart, each would show the others what it keeps",
	"job":               "records, holders and restarts are one protocol between processes",
}

func rootSize(m *module, report func(pos, format string, args ...any)) {
	n := 0
	for _, f := range m.files {
		if f.dir == "." && !f.test {
			n++
		}
	}
	if n > maxRootFiles {
		report(".", "has %d files, more than %d", n, maxRootFiles)
	}
}

func typeSize(m *module, report func(pos, format string, args ...any)) {
	methods := map[string]map[string]bool{} // by directory and type; one of several systems counts once
	for _, f := range m.files {
		for _, fn := range f.methods {
			name := f.dir + " " + fn.of
			if methods[name] == nil {
				methods[name] = map[string]bool{}
			}
			methods[name][fn.name] = !f.test
		}
	}
	for name, of := range methods {
		n := 0
		for _, counts := range of {
			if counts {
				n++
			}
		}
		if dir, t, _ := strings.Cut(name, " "); n > max(maxMethods, wideTypes[name]) {
			report(dir, "type %s has %d methods, more than %d", t, n, max(maxMethods, wideTypes[name]))
		}
	}
}

func packageSize(m *module, report func(pos, format string, args ...any)) {
	lines := map[string]int{}
	for _, f := range m.files {
		if !f.test {
			lines[f.dir] += f.lines
		}
	}
	for dir, n := range lines {
		if n > maxPackageLines && longPackages[dir] == "" {
			report(dir, "has %d lines, more than %d", n, maxPackageLines)
		}
	}
}

// receiver returns the name of a method's type.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}
