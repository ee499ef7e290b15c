//go:build linux

// Timeout is timeout(1) of the GNU coreutils on top of safeexec: the same options, messages and
// exit codes. It shows how a program lets a command have its own standard streams, and how a Result
// becomes an exit code.
//
//	go run ./examples/timeout -v -k 1 0.5 sleep 60
//
// It differs from GNU's where safeexec promises more, or less:
//
//   - What COMMAND leaves behind in its session is ended as well, also if COMMAND ended in time.
//     GNU's signals one process group, once, and leaves the rest running.
//   - Without -k, KILL follows after a minute. GNU's never sends it, and may wait for ever.
//   - The signal that -s names, TERM by default, goes to the whole tree, also if it was sent to
//     us. Of HUP, INT, QUIT and TERM the others go to COMMAND alone: a shell that waits for a
//     program may heed them late.
//   - COMMAND leads a session without a terminal, with --foreground or not. It can read a terminal
//     that is its standard input, and Ctrl-C reaches it through us. It cannot open /dev/tty, and
//     Ctrl-Z stops us alone.
//   - -v reports what was sent when the time was up once COMMAND has ended.
//   - A program that is in PATH and cannot be executed is 127, not 126. A hexadecimal DURATION
//     needs its exponent: 0x1p4. No timeout, and a very long one, are a hundred years.
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
ended it, or 124: the time was up; 125: timeout failed; 126: COMMAND cannot be run; 127: there is
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
