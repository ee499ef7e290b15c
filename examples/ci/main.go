// Ci runs the steps of a YAML file: some at a time, and each once those that it needs have passed.
//
//	ci [-file ci.yml] [-limit N] [-grace 5s] [-out ci-out]
//
//	steps:
//	  - name: download
//	    run: go mod download
//	    timeout: 2m           # of each try; ten minutes without it
//	    retry: 2              # as many tries more if it fails
//	    pause: 5s             # before each of them
//	  - name: test
//	    needs: [download]
//	    run: go test ./...
//	    dir: sub              # from the file's directory, which it is without it
//	    env: {CGO_ENABLED: "0"}
//
// What a step writes comes line by line behind its name, and is in ci-out/NAME.log. On a terminal a line shows how far
// all is. Beside the logs, junit.xml and summary.md tell what became of each step. A file with an unknown field, a need
// that is not there or a cycle is refused before anything starts.
//
// A step ends with all of its processes, a server that it leaves in the background too. When its timeout passes, ci
// ends it and says what it was blocked in. Ctrl-C ends all steps, and a second one kills them. If ci itself is killed,
// its guard ends them.
//
// The exit code is 0 if all steps passed, 1 if not, 2 for a wrong usage or file, and 130 after Ctrl-C and SIGTERM.
//
// To make it yours, change command in run.go, which builds what is run for a step: in a container, say, or as another
// user. The packages beside it, the file format, the screen and the reports, can stay as they are. It is for Linux:
// elsewhere there is no guard.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/term"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/examples/ci/report"
	"github.com/seed841d8200/safeexec/examples/ci/screen"
	"github.com/seed841d8200/safeexec/examples/ci/steps"
	"github.com/seed841d8200/safeexec/group"
	"github.com/seed841d8200/safeexec/guard"
)

var (
	file  = flag.String("file", "ci.yml", "`file` of the steps, which run in its directory")
	limit = flag.Int("limit", runtime.GOMAXPROCS(0), "how many steps run at a time")
	grace = flag.Duration("grace", safeexec.DefaultGracePeriod, "`time` between SIGTERM and SIGKILL")
	out   = flag.String("out", "ci-out", "`directory` of logs and reports")
)

// The exit codes.
const (
	exitPassed  = 0
	exitFailed  = 1
	exitRefused = 2
	exitSignal  = 130
)

// kept is how much of a step's output the reports have, in bytes: the beginning and the end.
const kept = 16 << 10

func main() {
	guard.Init()
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(exitRefused)
	}
	code, err := ci()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ci:", err)
	}
	os.Exit(code)
}

func ci() (code int, err error) {
	list, err := steps.Load(*file)
	if err != nil {
		return exitRefused, err
	}
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	g, err := group.New(ctx, group.Limit(*limit), group.Options(safeexec.WithGracePeriod(*grace),
		safeexec.WithMergedOutput(), safeexec.WithOutputLimit(kept), safeexec.WithGuard()))
	if err != nil {
		return exitRefused, err
	}
	if err := os.MkdirAll(*out, 0o755); err != nil {
		return exitRefused, err
	}
	width := 0
	for _, s := range list {
		width = max(width, len(s.Name))
	}
	r := &runner{group: g, dir: filepath.Dir(*file), out: *out, screen: screen.New(os.Stdout, width)}
	if term.IsTerminal(int(os.Stdout.Fd())) {
		r.screen.ShowBar(len(list))
	}
	results := r.run(ctx, list)
	r.screen.Close()
	err = errors.Join(g.Shutdown(context.WithoutCancel(ctx)), // there is something left only if it cannot be killed
		report.Write(filepath.Join(*out, "junit.xml"), results, report.JUnit),
		report.Write(filepath.Join(*out, "summary.md"), results, report.Markdown))
	switch {
	case ctx.Err() != nil:
		return exitSignal, errors.Join(context.Cause(ctx), err)
	case err != nil || report.Count(results, report.Passed) < len(results):
		return exitFailed, err
	}
	return exitPassed, nil
}
