package analyzer

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// method reports a method of exec.Cmd that starts the command, also where it is not called at once.
func (s *search) method(sel *ast.SelectorExpr, stack []ast.Node) {
	f, _ := s.pass.TypesInfo.Uses[sel.Sel].(*types.Func)
	if !isMethod(f, "os/exec", "Cmd", "Run", "Start", "Output", "CombinedOutput") {
		return
	}
	message := fmt.Sprintf("(*exec.Cmd).%s leaves the process tree of the command without a bound; "+
		"use safeexec.%[1]s", f.Name())
	s.report(sel, message, s.fix(sel, f.Name(), stack)...)
}

// fix returns what calls safeexec instead, or nothing where that takes more than a change of this statement.
func (s *search) fix(sel *ast.SelectorExpr, name string, stack []ast.Node) []analysis.SuggestedFix {
	call, ok := last(stack, 0).(*ast.CallExpr)
	if !ok || call.Fun != sel || name == "Start" { // code that starts also waits, elsewhere
		return nil
	}
	cmd, ok := s.command(sel)
	if !ok {
		return nil
	}
	ctx := s.contextAt(call.Pos(), stack)
	pkg, imports, ok := s.importRoot(call.Pos())
	if ctx == "" || !ok {
		return nil
	}
	edits := []analysis.TextEdit{{
		Pos: call.Pos(), End: call.End(), NewText: fmt.Appendf(nil, "%s.%s(%s, %s)", pkg, name, ctx, cmd),
	}}
	if name == "Run" {
		around, ok := s.takeResult(call, stack, &edits[0])
		if !ok {
			return nil
		}
		edits = append(edits, around...)
	}
	return []analysis.SuggestedFix{{
		Message:   fmt.Sprintf("Call %s.%s, which needs a deadline of %s or %[1]s.WithTimeout", pkg, name, ctx),
		TextEdits: append(edits, imports...),
	}}
}

// last returns the i-th node from the end of the stack, nil if there is none.
func last(stack []ast.Node, i int) ast.Node {
	if i >= len(stack) {
		return nil
	}
	return stack[len(stack)-1-i]
}

// command returns the receiver as an argument.
func (s *search) command(sel *ast.SelectorExpr) (string, bool) {
	selection := s.pass.TypesInfo.Selections[sel]
	if selection == nil || selection.Kind() != types.MethodVal || len(selection.Index()) != 1 {
		return "", false // of a field that is embedded
	}
	text, ok := s.text(sel.X)
	if !ok {
		return "", false
	}
	if _, ok := types.Unalias(selection.Recv()).(*types.Pointer); ok {
		return text, true
	}
	return "&" + text, true
}

// text returns the source of an expression.
func (s *search) text(e ast.Expr) (string, bool) {
	file := s.pass.Fset.File(e.Pos())
	source, err := s.pass.ReadFile(file.Name())
	if err != nil {
		return "", false
	}
	first, end := file.Offset(e.Pos()), file.Offset(e.End())
	if end > len(source) {
		return "", false
	}
	return string(source[first:end]), true
}

// takeResult has the statement around a call of Run take a Result, too, which it drops.
func (s *search) takeResult(call *ast.CallExpr, stack []ast.Node, edit *analysis.TextEdit) ([]analysis.TextEdit, bool) {
	before := func(pos token.Pos) []analysis.TextEdit {
		return []analysis.TextEdit{{Pos: pos, End: pos, NewText: []byte("_, ")}}
	}
	switch around := last(stack, 1).(type) {
	case *ast.ExprStmt:
		edit.NewText = append([]byte("_, _ = "), edit.NewText...)
		return nil, true
	case *ast.AssignStmt:
		if len(around.Rhs) != 1 || around.Rhs[0] != call {
			return nil, false
		}
		return before(around.Pos()), true
	case *ast.ReturnStmt:
		return nil, s.returnError(around, stack, edit)
	}
	return nil, false
}

// returnError makes two statements of a return: the call, and the return of its error.
func (s *search) returnError(ret *ast.ReturnStmt, stack []ast.Node, edit *analysis.TextEdit) bool {
	switch last(stack, 2).(type) {
	case *ast.BlockStmt, *ast.CaseClause, *ast.CommClause: // which hold two statements as well
	default:
		return false
	}
	if len(ret.Results) != 1 {
		return false
	}
	scope := s.pass.Pkg.Scope().Innermost(ret.Pos())
	if scope == nil {
		return false
	}
	assign := ":="
	if old := scope.Lookup("err"); old != nil {
		if _, ok := old.(*types.Var); !ok || !types.Identical(old.Type(), types.Universe.Lookup("error").Type()) {
			return false
		}
		if old.Pos() < ret.Pos() {
			assign = "="
		}
	}
	edit.NewText = fmt.Appendf(nil, "_, err %s %s\nreturn err", assign, edit.NewText)
	edit.Pos = ret.Pos()
	return true
}

// contextAt returns the name of a context that the code at pos sees: ctx, or else a parameter of a function around it.
func (s *search) contextAt(pos token.Pos, stack []ast.Node) string {
	scope := s.pass.Pkg.Scope().Innermost(pos)
	if scope == nil {
		return ""
	}
	if s.isContext(scope, "ctx", pos) {
		return "ctx"
	}
	for _, around := range slices.Backward(stack) {
		var f *ast.FuncType
		switch around := around.(type) {
		case *ast.FuncDecl:
			f = around.Type
		case *ast.FuncLit:
			f = around.Type
		default:
			continue
		}
		for _, field := range f.Params.List {
			for _, name := range field.Names {
				if s.isContext(scope, name.Name, pos) {
					return name.Name
				}
			}
		}
	}
	return ""
}

func (s *search) isContext(scope *types.Scope, name string, pos token.Pos) bool {
	_, obj := scope.LookupParent(name, pos)
	v, ok := obj.(*types.Var)
	return ok && isNamed(v.Type(), "context", "Context") && !isPointer(v.Type())
}

func isPointer(t types.Type) bool {
	_, ok := types.Unalias(t).(*types.Pointer)
	return ok
}

// importRoot returns the name that safeexec has in this file, and the edits that import it. It is false where the
// name means something else.
func (s *search) importRoot(pos token.Pos) (string, []analysis.TextEdit, bool) {
	scope := s.pass.Pkg.Scope().Innermost(pos)
	if scope == nil || strings.TrimSuffix(s.pass.Pkg.Path(), "_test") == rootPath {
		return "", nil, false
	}
	for _, spec := range s.file.Imports {
		if to, err := strconv.Unquote(spec.Path.Value); err != nil || to != rootPath {
			continue
		}
		name := path.Base(rootPath)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		_, obj := scope.LookupParent(name, pos)
		_, ok := obj.(*types.PkgName)
		return name, nil, ok
	}
	name := path.Base(rootPath)
	if _, obj := scope.LookupParent(name, pos); obj != nil || s.declares(name) {
		return "", nil, false
	}
	return name, []analysis.TextEdit{s.addImport()}, true
}

// declares reports whether the package has an object of that name, in whatever file.
func (s *search) declares(name string) bool { return s.pass.Pkg.Scope().Lookup(name) != nil }

// addImport imports safeexec after the file's last import: this file uses os/exec, or what brings it.
func (s *search) addImport() analysis.TextEdit {
	var decl *ast.GenDecl
	for _, d := range s.file.Decls {
		if d, ok := d.(*ast.GenDecl); ok && d.Tok == token.IMPORT && !imports(d, "C") {
			decl = d
		}
	}
	switch {
	case decl == nil:
		return importAfter(s.file.Name.End(), "\n\nimport ")
	case !decl.Rparen.IsValid() || len(decl.Specs) == 0:
		return importAfter(decl.End(), "\n\nimport ")
	}
	spec := decl.Specs[len(decl.Specs)-1].(*ast.ImportSpec)
	gap := "\n"
	if first, _, _ := strings.Cut(strings.Trim(spec.Path.Value, "`\""), "/"); !strings.Contains(first, ".") {
		gap = "\n\n" // the group of the standard library stays alone
	}
	end := spec.End()
	if spec.Comment != nil {
		end = spec.Comment.End()
	}
	return importAfter(end, gap+"\t")
}

func importAfter(pos token.Pos, before string) analysis.TextEdit {
	return analysis.TextEdit{Pos: pos, End: pos, NewText: fmt.Appendf(nil, "%s%q", before, rootPath)}
}

// imports reports whether a declaration imports a package.
func imports(d *ast.GenDecl, what string) bool {
	return slices.ContainsFunc(d.Specs, func(spec ast.Spec) bool {
		to, err := strconv.Unquote(spec.(*ast.ImportSpec).Path.Value)
		return err == nil && to == what
	})
}
