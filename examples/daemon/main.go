// Daemon starts a service that outlives it, waits until the service is ready, and finds it again to
// ask for it, to read its log and to stop it.
//
//	daemon [-dir DIR] start [-ready REGEXP | -port ADDR] [-pidfile FILE] NAME COMMAND [ARGUMENT...]
//	daemon [-dir DIR] status [NAME]
//	daemon [-dir DIR] log NAME
//	daemon [-dir DIR] restart NAME
//	daemon [-dir DIR] stop NAME
//
// Each call is a program of its own. None stays behind to bound the log, so that it has no bound
// here: a service that writes much is for a program that lives, and calls Adopt. The exit code is 0
// if it was done, 1 if not, 2 for wrong arguments, and 3 for the status of a service that does not
// run, as of LSB scripts.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"

	"github.com/seed841d8200/safeexec/job"
)

const (
	codeFailed = 1
	codeUsage  = 2
	codeDead   = 3
)

// readyWithin is how long a service may take to be ready.
const readyWithin = 30 * time.Second

func main() { os.Exit(run(os.Args[1:])) }

// run runs one subcommand and returns the exit code.
func run(args []string) int {
	flags := flag.NewFlagSet("daemon", flag.ContinueOnError)
	private := filepath.Join(os.TempDir(), fmt.Sprintf("daemon-%d", os.Getuid()))
	dir := flags.String("dir", private, "`directory` of the records")
	if flags.Parse(args) != nil || flags.NArg() == 0 {
		return usage()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store, err := job.Open(*dir)
	if err != nil {
		return failed(err)
	}
	defer store.Close()
	verb, rest := flags.Arg(0), flags.Args()[1:]
	switch {
	case verb == "start":
		return start(ctx, store, rest)
	case verb == "status" && len(rest) == 0:
		return list(ctx, store)
	case len(rest) != 1:
		return usage()
	}
	j, err := store.Find(rest[0])
	if err != nil {
		return failed(err)
	}
	switch verb {
	case "status":
		return status(j)
	case "log":
		return tail(j)
	case "restart":
		return failed(j.Restart(ctx))
	case "stop":
		return end(ctx, j)
	}
	return usage()
}

func usage() int {
	fmt.Fprintln(os.Stderr, "usage: daemon [-dir DIR] start|status|log|restart|stop ...")
	return codeUsage
}

// failed prints the error and returns the exit code.
func failed(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return codeFailed
}

func start(ctx context.Context, store *job.Store, args []string) int {
	flags := flag.NewFlagSet("start", flag.ContinueOnError)
	line := flags.String("ready", "", "`expression` that a line of the log matches once the service is ready")
	port := flags.String("port", "", "`address` that accepts connections once it is")
	pidFile := flags.String("pidfile", "", "`file` for its process ID, for other tools")
	if flags.Parse(args) != nil || flags.NArg() < 2 {
		return usage()
	}
	opts := []job.Option{job.Name(flags.Arg(0)), job.Endless(), job.Log(job.MaxSize(0))}
	if *pidFile != "" {
		opts = append(opts, job.PIDFile(*pidFile))
	}
	var ready []job.Condition
	if *line != "" {
		re, err := regexp.Compile(*line)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return codeUsage
		}
		ready = append(ready, job.LogLine(re))
	}
	if *port != "" {
		ready = append(ready, job.Port(*port))
	}
	if len(ready) > 0 {
		opts = append(opts, job.Ready(readyWithin, ready...), job.StopUnready())
	}
	j, err := store.Start(ctx, exec.Command(flags.Arg(1), flags.Args()[2:]...), opts...)
	if err != nil {
		if e, ok := errors.AsType[*job.ReadyError](err); ok {
			for _, line := range e.Last {
				fmt.Fprintln(os.Stderr, "| "+line.Text)
			}
		}
		return failed(err)
	}
	return status(j)
}

func status(j *job.Job) int {
	st, err := j.Status()
	if err != nil {
		return failed(err)
	}
	fmt.Println(st)
	if st.State != job.Running {
		return codeDead
	}
	return 0
}

// list shows all services, and writes down which have ended meanwhile.
func list(ctx context.Context, store *job.Store) int {
	found, err := store.Adopt(ctx)
	code := failed(err)
	for _, a := range found {
		if a.Err != nil {
			code = failed(a.Err)
			continue
		}
		fmt.Println(a.Status)
	}
	return code
}

func tail(j *job.Job) int {
	lines, err := j.Tail(100)
	for _, line := range lines {
		fmt.Println(line.Text)
	}
	return failed(err)
}

func end(ctx context.Context, j *job.Job) int {
	did, err := j.Stop(ctx)
	for _, p := range did.Killed {
		fmt.Printf("ended    %d %q\n", p.PID, p.Name)
	}
	for _, p := range did.Survivors {
		fmt.Printf("survived %d %q\n", p.PID, p.Name)
	}
	return failed(err)
}
