// Why says why a process does not go on: what it is blocked in, which processes it waits for, and what
// those are blocked in, to the end of the chain.
//
//	why [-json] [-watch] PID
//	why [-json] -pipe INODE
//
// The exit code is 0 if a cause was found, 1 if not, 2 if the process could not be looked at.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/seed841d8200/safeexec"
)

var (
	asJSON = flag.Bool("json", false, "print JSON")
	watch  = flag.Bool("watch", false, "print each second what has changed, until the process ends")
	pipe   = flag.Uint64("pipe", 0, "list who has the pipe with this `inode` open")
)

func main() {
	flag.Parse()
	if *pipe != 0 {
		os.Exit(ends(*pipe))
	}
	pid, err := strconv.Atoi(flag.Arg(0))
	if err != nil || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	code, last := explain(pid, "")
	for *watch && code != 2 {
		time.Sleep(time.Second)
		code, last = explain(pid, last)
	}
	os.Exit(code)
}

// explain prints the report unless its verdict is the last one, and returns the exit code.
func explain(pid int, last string) (code int, verdict string) {
	report, err := safeexec.Explain(context.Background(), pid, safeexec.WithRedact(safeexec.RedactSecrets))
	if err != nil {
		fmt.Fprintf(os.Stderr, "why: %d: %v\n", pid, err)
		return 2, last
	}
	if report.Verdict != last {
		show(report)
	}
	if !report.Found {
		code = 1
	}
	return code, report.Verdict
}

func ends(inode uint64) int {
	use, err := safeexec.ExplainPipe(context.Background(), inode)
	if err != nil {
		fmt.Fprintf(os.Stderr, "why: %v\n", err)
		return 2
	}
	show(use)
	if len(use.Readers) == 0 && len(use.Writers) == 0 {
		return 1
	}
	return 0
}

func show(v any) {
	if *asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		_ = out.Encode(v)
		return
	}
	fmt.Print(v)
}
