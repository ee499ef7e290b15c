package safeexectest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// programVariable selects the function of a process of [Program], by the names of the test and the program.
const programVariable = "SAFEEXECTEST_PROGRAM"

// Program makes f a program of that name in the PATH of this process, for tests that need real processes and a tree
// of them. f gets the arguments after the name, and returns the exit code. Program returns the program's path.
//
// The program is the test's own binary: it runs the same test up to this call, and then f. Call it first in the test;
// what comes before it, in the test and in TestMain, is done by the program as well. Since it changes the
// environment, the test cannot be parallel. It needs a shell, /bin/sh.
func Program(t *testing.T, name string, f func(args []string) int) string {
	t.Helper()
	mark := t.Name() + "\n" + name
	if os.Getenv(programVariable) == mark {
		_ = os.Unsetenv(programVariable)
		os.Exit(f(programArgs())) //nolint:forbidigo // a program of its own
	}
	if strings.ContainsAny(name, "/\x00") || name == "" {
		t.Fatalf("safeexectest: %q is no name of a program", name)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("safeexectest: %v", err)
	}
	path := filepath.Join(programDir(t), name)
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s -test.run=%s -test.timeout=10m -- \"$@\"\n",
		programVariable, quoted(mark), quoted(self), quoted(onlyTest(t.Name())))
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatalf("safeexectest: %v", err)
	}
	return path
}

// programArgs returns what comes after the flags of the test binary.
func programArgs() []string {
	for i, arg := range os.Args {
		if arg == "--" {
			return os.Args[i+1:]
		}
	}
	return nil
}

// programDirs are the directories in the PATH, by test.
var programDirs sync.Map

// programDir returns the test's directory of programs, which is the first in the PATH.
func programDir(t *testing.T) string {
	if dir, ok := programDirs.Load(t.Name()); ok {
		return dir.(string)
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	programDirs.Store(t.Name(), dir)
	t.Cleanup(func() { programDirs.Delete(t.Name()) })
	return dir
}

// onlyTest is the pattern of one test, and of no other.
func onlyTest(name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = "^" + regexp.QuoteMeta(part) + "$"
	}
	return strings.Join(parts, "/")
}

// quoted is a word of the shell.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
