//go:build linux

package main

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// A request is what the command line asks for.
type request struct {
	timeout   time.Duration // 0: none
	killAfter time.Duration // 0: not asked for
	signal    syscall.Signal
	preserve  bool // --preserve-status
	verbose   bool
	command   []string
}

var (
	errUsage   = errors.New("an operand is missing")
	errHelp    = errors.New("--help")
	errVersion = errors.New("--version")
)

// The options by their long and their short names; those with "=" take an argument.
var (
	longs  = []string{"foreground", "help", "kill-after=", "preserve-status", "signal=", "verbose", "version"}
	shorts = map[byte]string{'k': "kill-after=", 's': "signal=", 'v': "verbose"}
)

// parse reads the arguments as getopt_long(3) does: options end at the first operand or at "--",
// short ones can be put together, long ones cut short.
func parse(args []string) (*request, error) {
	req := &request{signal: syscall.SIGTERM}
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		var err error
		if strings.HasPrefix(arg, "--") {
			args, err = req.long(arg, args)
		} else {
			args, err = req.short(arg[1:], args)
		}
		if err != nil {
			return nil, err
		}
	}
	if len(args) < 2 {
		return nil, errUsage
	}
	req.command = args[1:]
	return req, parseDuration(&req.timeout, args[0])
}

func (req *request) long(arg string, rest []string) ([]string, error) {
	given, value, hasValue := strings.Cut(arg[2:], "=")
	var found []string
	for _, option := range longs {
		if strings.HasPrefix(option, given) {
			found = append(found, option)
		}
	}
	switch {
	case len(found) == 0:
		return nil, fmt.Errorf("unrecognized option '%s'", arg)
	case len(found) > 1:
		return nil, fmt.Errorf("option '%s' is ambiguous; possibilities: '--%s'", arg, strings.Join(found, "' '--"))
	}
	name, takesValue := strings.CutSuffix(found[0], "=")
	switch {
	case hasValue && !takesValue:
		return nil, fmt.Errorf("option '--%s' doesn't allow an argument", name)
	case takesValue && !hasValue && len(rest) == 0:
		return nil, fmt.Errorf("option '--%s' requires an argument", name)
	case takesValue && !hasValue:
		value, rest = rest[0], rest[1:]
	}
	return rest, req.set(name, value)
}

func (req *request) short(letters string, rest []string) ([]string, error) {
	for i := range len(letters) {
		name, takesValue := strings.CutSuffix(shorts[letters[i]], "=")
		value := letters[i+1:]
		switch {
		case name == "":
			return nil, fmt.Errorf("invalid option -- '%c'", letters[i])
		case takesValue && value == "" && len(rest) == 0:
			return nil, fmt.Errorf("option requires an argument -- '%c'", letters[i])
		case takesValue && value == "":
			value, rest = rest[0], rest[1:]
		}
		if err := req.set(name, value); err != nil || takesValue {
			return rest, err
		}
	}
	return rest, nil
}

func (req *request) set(name, value string) (err error) {
	switch name {
	case "kill-after":
		return parseDuration(&req.killAfter, value)
	case "signal":
		req.signal, err = parseSignal(value)
	case "preserve-status":
		req.preserve = true
	case "verbose":
		req.verbose = true
	case "help":
		return errHelp
	case "version":
		return errVersion
	}
	return err
}
