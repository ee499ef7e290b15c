package analyzer

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
)

// start reports functions that start a process by hand, also where they are not called at once.
func (s *search) start(name *ast.Ident) {
	f, _ := s.pass.TypesInfo.Uses[name].(*types.Func)
	if isFunc(f, "os", "StartProcess") || isFunc(f, "syscall", "ForkExec", "StartProcess") {
		s.report(name, fmt.Sprintf("%s.%s starts a process that nothing bounds; use safeexec.Start",
			f.Pkg().Name(), f.Name()))
	}
}

// killGroup reports a signal to a process group by its number.
func (s *search) killGroup(call *ast.CallExpr) {
	f := s.callee(call)
	if !isFunc(f, "syscall", "Kill") && !isFunc(f, "golang.org/x/sys/unix", "Kill") || len(call.Args) != 2 {
		return
	}
	if s.negative(call.Args[0]) {
		s.report(call, "kill of a negative PID may hit another process group, and misses what has left this one; "+
			"use safeexec.Run or safeexec.KillTree")
	}
}

// negative reports whether an expression is a number below zero, or is negated.
func (s *search) negative(e ast.Expr) bool {
	if v := s.pass.TypesInfo.Types[e].Value; v != nil {
		return constant.Sign(v) < 0
	}
	switch e := ast.Unparen(e).(type) {
	case *ast.UnaryExpr:
		return e.Op == token.SUB
	case *ast.BinaryExpr:
		return e.Op == token.MUL && (s.negative(e.X) || s.negative(e.Y))
	}
	return false
}

// noTimeout reports timeouts that Run refuses.
func (s *search) noTimeout(call *ast.CallExpr) {
	f := s.callee(call)
	if !isFunc(f, rootPath, "WithTimeout", "WithIdleTimeout") || len(call.Args) != 1 {
		return
	}
	if v := s.pass.TypesInfo.Types[call.Args[0]].Value; v != nil && constant.Sign(v) <= 0 {
		s.report(call, fmt.Sprintf("%s(%s) is refused by Run: it must be positive", f.Name(), types.ExprString(call.Args[0])))
	}
}

// droppedError reports a call whose results are not used. An error that is assigned to _ was dropped on purpose.
func (s *search) droppedError(call *ast.CallExpr, stack []ast.Node) {
	if len(stack) == 0 {
		return
	}
	switch stack[len(stack)-1].(type) {
	case *ast.ExprStmt, *ast.GoStmt, *ast.DeferStmt:
	default:
		return
	}
	f := s.callee(call)
	switch {
	case isFunc(f, rootPath, "Run", "Start", "Output", "CombinedOutput", "KillTree"):
		s.report(call, fmt.Sprintf("the error of safeexec.%s is dropped: it says what was not done", f.Name()))
	case isMethod(f, rootPath, "Process", "Wait", "Stop"):
		s.report(call, fmt.Sprintf("the error of Process.%s is dropped: it says what was not done", f.Name()))
	}
}

// deathSignal reports a Pdeathsig that is set where the thread is not locked.
func (s *search) deathSignal(field *ast.Ident, value ast.Expr, stack []ast.Node) {
	f, ok := s.pass.TypesInfo.Uses[field].(*types.Var)
	if !ok || !f.IsField() || f.Name() != "Pdeathsig" || f.Pkg() == nil || f.Pkg().Path() != "syscall" {
		return
	}
	if v := s.pass.TypesInfo.Types[value].Value; v != nil && constant.Sign(v) == 0 {
		return
	}
	for _, around := range stack {
		switch around.(type) {
		case *ast.FuncDecl, *ast.FuncLit:
			if s.locksThread(around) {
				return
			}
		}
	}
	s.report(field, "Pdeathsig is sent when the thread ends that started the command: lock it with "+
		"runtime.LockOSThread until the command has ended")
}

// locksThread reports whether a function itself calls runtime.LockOSThread: one within it may run on another thread.
func (s *search) locksThread(f ast.Node) (locks bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return n == f
		case *ast.CallExpr:
			locks = locks || isFunc(s.callee(n), "runtime", "LockOSThread")
		}
		return !locks
	})
	return locks
}
