package testproc

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// WriteProgram writes an executable file with the given mode and returns its path.
func WriteProgram(t testing.TB, mode fs.FileMode, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	WriteExecutable(t, path, []byte(text), mode)
	return path
}

// WriteExecutable is os.WriteFile for what is executed. Another process writes it: what another test starts meanwhile
// would have a file of ours open until its exec, which is too late for an exec of the file.
func WriteExecutable(t testing.TB, path string, text []byte, mode fs.FileMode) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `exec cat >"$0"`, path)
	cmd.Env = []string{"PATH=/usr/bin:/bin:" + os.Getenv("PATH")}
	cmd.Stdin = bytes.NewReader(text)
	err := cmd.Run()
	if err == nil {
		err = os.Chmod(path, mode)
	} else { // there is no such program
		err = os.WriteFile(path, text, mode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// BusyProgram returns a program that is being written until the test's end.
func BusyProgram(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(HasProgram(t, "true"))
	if err != nil {
		t.Fatal(err)
	}
	path := WriteProgram(t, 0o755, string(text))
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { writer.Close() })
	return path
}

// A PlainReader hides what kind of Reader it has, so that a goroutine has to read it.
type PlainReader struct{ io.Reader }

// A PlainWriter hides what kind of Writer it has, so that a goroutine has to write to it.
type PlainWriter struct{ io.Writer }

// Endless is a Reader that has always something.
type Endless struct{}

// Read returns as many zeros as are asked for.
func (Endless) Read(p []byte) (int, error) { return len(p), nil }

// Shell returns the command of a shell script.
func Shell(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }

// Fail says what was wrong, and returns the exit status of a role that failed.
func Fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}
