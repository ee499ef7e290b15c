package analyzer

import (
	"go/ast"
	"go/token"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// allowPrefix begins a comment that allows a line. There is no blank in it, as in all directives of Go.
const allowPrefix = "//safeexec:allow"

// An allowance is one such comment.
type allowance struct {
	comment *ast.Comment
	reason  string
	used    bool
}

// allowed holds the allowances of a file by the line that they allow.
type allowed map[int]*allowance

// allowances reads a file's comments. One that stands alone allows the line after it.
func allowances(fset *token.FileSet, file *ast.File) allowed {
	found := allowed{}
	for _, group := range file.Comments {
		for _, c := range group.List {
			reason, ok := strings.CutPrefix(c.Text, allowPrefix)
			if !ok || reason != "" && !strings.ContainsAny(reason[:1], " \t") {
				continue
			}
			line := fset.Position(c.Pos()).Line
			if !codeBefore(fset, file, c, line) {
				line = fset.Position(group.End()).Line + 1
			}
			found[line] = &allowance{comment: c, reason: strings.TrimSpace(reason)}
		}
	}
	return found
}

// codeBefore reports whether something ends on the line of the comment before it begins.
func codeBefore(fset *token.FileSet, file *ast.File, c *ast.Comment, line int) (code bool) {
	ast.Inspect(file, func(n ast.Node) bool {
		switch n.(type) {
		case nil, *ast.Comment, *ast.CommentGroup:
			return false
		}
		for _, pos := range []token.Pos{n.Pos(), n.End()} {
			code = code || pos <= c.Pos() && fset.Position(pos).Line == line
		}
		return !code
	})
	return code
}

// allow reports whether the code from line first to line last is allowed, and marks what allows it as used.
func (a allowed) allow(first, last int) bool {
	ok := false
	for line := first; line <= last; line++ {
		if one := a[line]; one != nil {
			one.used = true
			ok = ok || one.reason != ""
		}
	}
	return ok
}

// reportRest reports the allowances that have no reason, or allow nothing.
func (a allowed) reportRest(pass *analysis.Pass) {
	for _, one := range a {
		switch {
		case one.reason == "":
			pass.ReportRangef(one.comment, "%s needs a reason", allowPrefix)
		case !one.used:
			pass.ReportRangef(one.comment, "%s allows nothing here", allowPrefix)
		}
	}
}
