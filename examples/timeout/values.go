//go:build linux

package main

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// names are the signals in the order of their numbers, signal(7). EXIT stands for none, kill(2).
var names = strings.Fields(`EXIT HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM
	STKFLT CHLD CONT STOP TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH POLL PWR SYS`)

var otherNames = map[string]string{"CLD": "CHLD", "IO": "POLL", "IOT": "ABRT"}

// The real-time signals that the C library leaves to programs.
const rtmin, rtmax = 34, 64

// parseSignal takes a name in any case, with or without SIG, a number, or what a shell's $? is
// after a signal.
func parseSignal(s string) (sig syscall.Signal, err error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if other, ok := otherNames[name]; ok {
		name = other
	}
	n := slices.Index(names, name)
	if number, err := strconv.ParseUint(s, 10, 31); err == nil {
		n = int(number & 0x7f)
	} else if offset, ok := strings.CutPrefix(name, "RTMIN"); ok {
		n = realtime(rtmin, offset)
	} else if offset, ok := strings.CutPrefix(name, "RTMAX"); ok {
		n = realtime(rtmax, offset)
	}
	if n < 0 || n >= len(names) && n < rtmin || n > rtmax {
		return 0, fmt.Errorf("%s: invalid signal", quote(s))
	}
	return syscall.Signal(n), nil
}

// realtime returns base plus what follows RTMIN or RTMAX, -1 if that is no real-time signal.
func realtime(base int, offset string) int {
	if offset == "" {
		return base
	}
	n, err := strconv.Atoi(offset)
	if n += base; err != nil || n < rtmin || n > rtmax {
		return -1
	}
	return n
}

// nameOf returns the signal's name without SIG.
func nameOf(sig syscall.Signal) string {
	switch n := int(sig); {
	case n < len(names):
		return names[n]
	case n == rtmin:
		return "RTMIN"
	case n == rtmax:
		return "RTMAX"
	case n <= (rtmin+rtmax)/2:
		return fmt.Sprintf("RTMIN+%d", n-rtmin)
	default:
		return fmt.Sprintf("RTMAX-%d", rtmax-n)
	}
}

var units = map[byte]float64{'s': 1, 'm': 60, 'h': 60 * 60, 'd': 24 * 60 * 60}

// parseDuration takes a floating-point number with an optional unit. What is too long for a Duration,
// infinity included, is forever; what is too short for one is a nanosecond.
func parseDuration(d *time.Duration, s string) error {
	number, unit := strings.TrimLeft(s, " \t\n\v\f\r"), 1.0
	if last := len(number) - 1; last >= 0 && units[number[last]] != 0 {
		number, unit = number[:last], units[number[last]]
	}
	seconds, err := strconv.ParseFloat(number, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) || !(seconds >= 0) || strings.Contains(number, "_") {
		return fmt.Errorf("invalid time interval %s", quote(s))
	}
	*d = forever
	if ns := math.Ceil(seconds * unit * 1e9); ns < float64(forever) {
		*d = time.Duration(ns)
	}
	return nil
}

// quote quotes as GNU programs do: with the marks that the locale has.
func quote(s string) string {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToUpper(os.Getenv(name)); locale != "" {
			if strings.HasSuffix(locale, "UTF-8") || strings.HasSuffix(locale, "UTF8") {
				return "‘" + s + "’"
			}
			break
		}
	}
	return "'" + s + "'"
}
