package fdtable

import (
	"strconv"
	"strings"
)

// A declaration is a descriptor that a variable of the environment hands to this process.
type declaration struct {
	fd       int
	variable string
	pipe     bool // it must be a pipe
}

// jobserverVariables hold the flags of make, and what cargo hands to the programs it builds with.
var jobserverVariables = []string{"MAKEFLAGS", "CARGO_MAKEFLAGS"}

// declarations returns what the environment declares. Whether such a descriptor is what it is said
// to be, is not looked at: make leaves its variable in place where it closed the jobserver.
func declarations(getenv func(string) string, pid int) []declaration {
	var list []declaration
	for _, variable := range jobserverVariables {
		if r, w, ok := jobserver(getenv(variable)); ok {
			list = append(list, declaration{r, variable, true}, declaration{w, variable, true})
		}
	}
	// sd_listen_fds(3): only if LISTEN_PID is ours they are for us, from 3 on.
	if getenv("LISTEN_PID") == strconv.Itoa(pid) {
		n, err := strconv.Atoi(getenv("LISTEN_FDS"))
		for fd := FirstFD; err == nil && fd < FirstFD+min(n, maxListenFDs); fd++ {
			list = append(list, declaration{fd, "LISTEN_FDS", false})
		}
	}
	return list
}

// maxListenFDs keeps a nonsensical number from costing anything.
const maxListenFDs = 4096

// jobserver finds the two ends of the pipe in the flags of make: --jobserver-auth=R,W since 4.2,
// --jobserver-fds=R,W before. The last one counts. A named FIFO (4.4) is opened by whoever uses it,
// negative numbers say that there is none.
func jobserver(flags string) (r, w int, ok bool) {
	for word := range strings.FieldsSeq(flags) {
		if word == "--" {
			break // variables of the command line follow
		}
		value, found := strings.CutPrefix(word, "--jobserver-auth=")
		if !found {
			value, found = strings.CutPrefix(word, "--jobserver-fds=")
		}
		if !found {
			continue
		}
		left, right, _ := strings.Cut(value, ",")
		var err1, err2 error
		r, err1 = strconv.Atoi(left)
		w, err2 = strconv.Atoi(right)
		ok = err1 == nil && err2 == nil && r >= FirstFD && w >= FirstFD
	}
	return r, w, ok
}
