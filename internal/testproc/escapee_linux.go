package testproc

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// The programs are written in C: they fork without an exec, and the Go runtime has threads.
//
//go:embed escapees
var escapeeSources embed.FS

// unsupportedStatus is the status of an escapee that cannot be had here.
const unsupportedStatus = 77

var errNoCompiler = errors.New("needs gcc")

// buildEscapee builds the program at its first use. Main removes it.
var buildEscapee = sync.OnceValues(func() (path string, err error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", errNoCompiler
	}
	dir, err := os.MkdirTemp("", "safeexec-escapee-")
	if err != nil {
		return "", err
	}
	atEnd(func() { os.RemoveAll(dir) })
	if err := os.CopyFS(dir, escapeeSources); err != nil {
		return "", err
	}
	sources, err := fs.Glob(escapeeSources, "escapees/*.c")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "escapee")
	cmd := exec.Command(gcc, append([]string{"-O1", "-static", "-pthread", "-o", path}, sources...)...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc: %w: %s", err, out)
	}
	return path, os.Chmod(dir, 0o755) // another user runs it
})

// EscapeeProgram returns the path of a static program that builds trees of processes which escape
// from whoever started them. It skips the test where there is no gcc.
//
//	escapee KIND stay|leave [N]
//
// It prints a ready line with the PIDs of the tree once all of it stands, and then sleeps or exits with
// status 0. The kinds are listed in escapees/main.c. Each process of a tree has all descriptors that
// the leader was born with, and ends by itself after ten minutes.
func EscapeeProgram(t testing.TB) string {
	t.Helper()
	path, err := buildEscapee()
	if errors.Is(err, errNoCompiler) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Unsupported reports whether an escapee ended because its kind cannot be had here. The reason is
// on its standard error.
func Unsupported(state *os.ProcessState) bool {
	if state == nil {
		return false
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	return ok && ws.Exited() && ws.ExitStatus() == unsupportedStatus
}
