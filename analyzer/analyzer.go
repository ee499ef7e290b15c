// Package analyzer finds Go code that starts commands without a bound.
//
// It reports
//
//   - (*exec.Cmd).Run, Start, Output and CombinedOutput, which wait without a bound for the command, or for
//     a process that holds its pipes;
//   - os.StartProcess, syscall.StartProcess and syscall.ForkExec;
//   - a Pdeathsig in a function that does not call runtime.LockOSThread: the kernel sends the signal when the
//     thread ends that started the command, and Go ends threads;
//   - syscall.Kill(-pid, …): the number may be another group's by then, and misses what has left the group;
//   - a dropped error of safeexec's Run, Start, Output, CombinedOutput, KillTree, Process.Wait and Process.Stop;
//   - WithTimeout and WithIdleTimeout with a constant that is not positive, which Run refuses.
//
// Where a context is in scope, Run, Output and CombinedOutput come with a fix that calls safeexec instead. The
// context then needs a deadline, or the call safeexec.WithTimeout: without either safeexec refuses to run.
//
// A comment at the end of the line, or on the line before it, allows what the line does. It must say why:
//
//	cmd.Start() //safeexec:allow a daemon, which outlives us
//
// An allow comment without a reason is reported, and so is one that allows nothing. Generated files are not
// looked at.
package analyzer

import (
	"go/ast"
	"go/types"

	"golang.org/x/tools/go/analysis"
)

// rootPath is the package that bounds commands.
const rootPath = "github.com/seed841d8200/safeexec"

// Analyzer reports commands that are started without a bound.
var Analyzer = &analysis.Analyzer{
	Name: "safeexec",
	Doc: `report commands that are started without a bound

Commands that os/exec runs can outlive their timeout, hold their pipes and leave processes behind.
The analyzer reports them, and how processes are killed by hand; safeexec.Run has a bound for all of it.
A line with the comment "//safeexec:allow reason" is left alone.`,
	URL: "https://pkg.go.dev/" + rootPath + "/analyzer",
	Run: run,
}

func run(pass *analysis.Pass) (any, error) {
	for _, file := range pass.Files {
		if ast.IsGenerated(file) {
			continue
		}
		s := &search{pass: pass, file: file, allowed: allowances(pass.Fset, file)}
		ast.PreorderStack(file, nil, s.node)
		s.allowed.reportRest(pass)
	}
	return nil, nil
}

// A search looks at one file.
type search struct {
	pass    *analysis.Pass
	file    *ast.File
	allowed allowed
}

// node looks at one node; stack holds those around it, the file first.
func (s *search) node(n ast.Node, stack []ast.Node) bool {
	switch n := n.(type) {
	case *ast.SelectorExpr:
		s.method(n, stack)
	case *ast.Ident:
		s.start(n)
	case *ast.CallExpr:
		s.killGroup(n)
		s.noTimeout(n)
		s.droppedError(n, stack)
	case *ast.KeyValueExpr:
		if key, ok := n.Key.(*ast.Ident); ok {
			s.deathSignal(key, n.Value, stack)
		}
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if field, ok := ast.Unparen(to).(*ast.SelectorExpr); ok && len(n.Rhs) == len(n.Lhs) {
				s.deathSignal(field.Sel, n.Rhs[i], stack)
			}
		}
	}
	return true
}

// report reports a finding, unless its line is allowed.
func (s *search) report(at ast.Node, message string, fixes ...analysis.SuggestedFix) {
	if s.allowed.allow(s.pass.Fset.Position(at.Pos()).Line, s.pass.Fset.Position(at.End()).Line) {
		return
	}
	s.pass.Report(analysis.Diagnostic{Pos: at.Pos(), End: at.End(), Message: message, SuggestedFixes: fixes})
}

// callee returns the function or method that is called, nil if that is not known.
func (s *search) callee(call *ast.CallExpr) *types.Func {
	var name *ast.Ident
	switch fun := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		name = fun
	case *ast.SelectorExpr:
		name = fun.Sel
	default:
		return nil
	}
	f, _ := s.pass.TypesInfo.Uses[name].(*types.Func)
	return f
}

// isFunc reports whether f is one of the functions of a package.
func isFunc(f *types.Func, path string, names ...string) bool {
	return f != nil && f.Pkg() != nil && f.Pkg().Path() == path && f.Signature().Recv() == nil && oneOf(f.Name(), names)
}

// isMethod reports whether f is one of the methods of path.typ.
func isMethod(f *types.Func, path, typ string, names ...string) bool {
	return f != nil && f.Signature().Recv() != nil && oneOf(f.Name(), names) &&
		isNamed(f.Signature().Recv().Type(), path, typ)
}

// isNamed reports whether t is path.name, or a pointer to it.
func isNamed(t types.Type, path, name string) bool {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok {
		return false
	}
	obj := named.Obj()
	return obj.Name() == name && obj.Pkg() != nil && obj.Pkg().Path() == path
}

func oneOf(name string, names []string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}
