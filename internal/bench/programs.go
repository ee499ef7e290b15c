package main

import (
	"embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
)

// The commands that are run are tiny C programs where there is a compiler, so that what is measured
// is the host and not the command.
//
//go:embed c
var sources embed.FS

// errNoCompiler is why the programs in C are missing.
var errNoCompiler = errors.New("there is no gcc")

// buildDir holds the built programs until removePrograms.
var buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "safeexec-bench-") })

func removePrograms() {
	if dir, err := buildDir(); err == nil {
		os.RemoveAll(dir)
	}
}

var built struct {
	sync.Mutex
	programs map[string]func() (string, error)
}

// program returns the path of a program of the directory c, built at its first use.
func program(name string) (string, error) {
	built.Lock()
	f := built.programs[name]
	if f == nil {
		if built.programs == nil {
			built.programs = map[string]func() (string, error){}
		}
		f = sync.OnceValues(func() (string, error) { return build(name) })
		built.programs[name] = f
	}
	built.Unlock()
	return f()
}

func build(name string) (string, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", errNoCompiler
	}
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	source, err := sources.ReadFile("c/" + name + ".c")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err == nil {
		return path, nil // a fresh process of ours has the directory of its parent
	}
	if err := os.WriteFile(path+".c", source, 0o600); err != nil {
		return "", err
	}
	args := []string{"-O2", "-Wall", "-static", "-o", path, path + ".c"}
	if name == "noop" {
		args = append([]string{"-nostdlib"}, args...)
	}
	if out, err := exec.Command(gcc, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc %s.c: %w: %s", name, err, out)
	}
	return path, nil
}

// noop is a command that exits at once.
func noop() []string {
	if path, err := program("noop"); err == nil {
		return []string{path}
	}
	return []string{"/bin/true"}
}

// sleeper is a command that sleeps for the given time; the caller ends it before.
func sleeper(seconds int) []string {
	if path, err := program("sleeper"); err == nil {
		return []string{path, strconv.Itoa(seconds)}
	}
	return []string{"/bin/sleep", strconv.Itoa(seconds)}
}

// emit is a command that writes total bytes, chunk at a time.
func emit(total int64, chunk int) []string {
	path, err := program("emit")
	if err != nil {
		path, _ = os.Executable()
		return []string{path, selfEmit, strconv.FormatInt(total, 10), strconv.Itoa(chunk)}
	}
	return []string{path, strconv.FormatInt(total, 10), strconv.Itoa(chunk)}
}

// tree is a command that leads a tree of n processes and prints a line once all of them were started.
func tree(n int) []string {
	sleep := sleeper(120)
	return []string{"/bin/sh", "-c",
		`n=$1; shift; while [ $n -gt 1 ]; do "$@" & n=$((n-1)); done; echo ready; exec "$@"`,
		"tree", strconv.Itoa(n), sleep[0], sleep[1]}
}

// large is a dynamic program of some size that does next to nothing.
func large() []string {
	for _, argv := range [][]string{{"git", "--version"}, {"perl", "-e", "1"}, {"bash", "-c", ":"}, {"ls", "--version"}} {
		if path, err := exec.LookPath(argv[0]); err == nil {
			return append([]string{path}, argv[1:]...)
		}
	}
	return noop()
}

// What this program is when it is run by itself: its first argument says so.
const (
	selfEmit  = "program:emit"
	selfChild = "program:child"
)

// runSelf does what the arguments ask for and ends the process, or returns if they ask for nothing
// of the kind. It comes first in main and in TestMain.
func runSelf() {
	if len(os.Args) < 2 {
		return
	}
	var err error
	switch os.Args[1] {
	case selfEmit:
		err = emitSelf(os.Args[2:])
	case selfChild:
		err = childMain(os.Args[2:])
	default:
		return
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// emitSelf is emit.c for where there is no compiler.
func emitSelf(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: BYTES CHUNK")
	}
	left, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	chunk, err := strconv.Atoi(args[1])
	if err != nil || chunk <= 0 {
		return errors.New("CHUNK must be a positive number")
	}
	p := make([]byte, chunk)
	for i := range p {
		p[i] = "0123456789abcde\n"[i%16]
	}
	for left > 0 {
		n, err := os.Stdout.Write(p[:min(left, int64(chunk))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

// counter is a Writer that counts. It has no ReadFrom, so that each implementation copies as it
// copies to any Writer.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}

// zeros is a Reader of n bytes that is nothing but a Reader.
func zeros(n int64) io.Reader { return struct{ io.Reader }{io.LimitReader(zeroReader{}, n)} }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { return len(p), nil }
