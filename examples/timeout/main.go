//go:build linux

// Timeout is timeout(1) of the GNU coreutils on top of safeexec: the same options, messages and
// exit codes. It shows how a program passes its standard streams straight through to a command, and
// how it turns a Result into an exit code.
//
//	go run ./examples/timeout -v -k 1 0.5 sleep 60; echo $?
//	go run ./examples/timeout --help
//
// It differs from GNU's where safeexec promises more, or less:
//
//   - Whatever COMMAND leaves behind in its session is ended as well, after COMMAND has ended too.
//     GNU's signals one process group, once, and leaves the rest running.
//   - Without -k, KILL follows after a minute. GNU's never sends it, and may wait for ever.
//   - COMMAND leads a session without a terminal: it can read a terminal that is its standard
//     input, but Ctrl-C comes to it through us and Ctrl-Z does not, and /dev/tty can not be
//     opened. So there is nothing for --foreground to change: it is accepted.
//   - INT, HUP and QUIT sent to us go to COMMAND alone, as does TERM if -s names another signal;
//     the signal that -s names goes to all of the tree, and what ignores it is killed.
//   - -v reports once COMMAND has ended what was sent to it when the time was up.
//   - No timeout, and a very long one, are a hundred years.
package main

import (
	"errors"
	"fmt"
	"os"
)

const help = `Usage: timeout [OPTION] DURATION COMMAND [ARG]...
Run COMMAND, and end it and all that it started if it runs for longer than DURATION.

  -s, --signal=SIGNAL        send SIGNAL when the time is up, not TERM: a name or a number
  -k, --kill-after=DURATION  send KILL if something is left this long after SIGNAL; default 1m
      --preserve-status      exit with the status of COMMAND even if the time was up
      --foreground           accepted, and of no effect
  -v, --verbose              say on standard error which signals were sent
      --help, --version      say this or that, and exit

DURATION is a number with a unit: s (the default), m, h or d. Fractions, exponents and inf are
accepted; 0 is no limit. The exit code is that of COMMAND, 128 plus the number of the signal that
ended it, or 124: the time was up; 125: timeout failed; 126: COMMAND can not be run; 127: there is
no COMMAND; 137: KILL was sent.
`

func main() { os.Exit(timeout(os.Args[1:])) }

func timeout(args []string) int {
	req, err := parse(args)
	switch {
	case errors.Is(err, errHelp):
		fmt.Print(help)
		return 0
	case errors.Is(err, errVersion):
		fmt.Println("timeout (safeexec)")
		return 0
	case err != nil:
		if !errors.Is(err, errUsage) {
			complain("%v", err)
		}
		fmt.Fprintf(os.Stderr, "Try '%s --help' for more information.\n", os.Args[0])
		return exitFailed
	}
	return req.run()
}
