// Killtree ends a process and all its descendants, also those that left its session, and says what it
// ended and what survived.
//
//	killtree [-grace 5s] PID[:START]
//
// START is the process's start time in clock ticks, field 22 of /proc/PID/stat: a process that has the
// number by now and began at another time is not touched. The exit code is 0 if the tree is gone, 1 if
// some of it survived, 2 if nothing was done: there is no such process, or it must not be ended.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/seed841d8200/safeexec"
)

var grace = flag.Duration("grace", safeexec.DefaultGracePeriod, "`time` between SIGTERM and SIGKILL")

func main() {
	flag.Parse()
	target, err := parse(flag.Arg(0))
	if err != nil || flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	os.Exit(kill(target))
}

func parse(arg string) (safeexec.ProcessInfo, error) {
	pid, start, given := strings.Cut(arg, ":")
	n, err := strconv.Atoi(pid)
	target := safeexec.ProcessInfo{PID: n}
	if err == nil && given {
		target.StartTicks, err = strconv.ParseUint(start, 10, 64)
	}
	return target, err
}

// kill ends the tree and returns the exit code.
func kill(target safeexec.ProcessInfo) int {
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	res, err := safeexec.KillTree(ctx, target, safeexec.WithGracePeriod(*grace))
	for _, p := range res.Killed {
		fmt.Printf("ended    %d %q\n", p.PID, p.Name)
	}
	for _, p := range res.Survivors {
		reason := "was signaled, and is alive"
		if p.Err != nil {
			reason = p.Err.Error()
		}
		fmt.Printf("survived %d %q: %s\n", p.PID, p.Name, reason)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "killtree: %v\n", err)
	if errors.Is(err, safeexec.ErrSurvivors) || errors.Is(err, safeexec.ErrTreeUnseen) {
		return 1
	}
	return 2
}
