package fdtable

import (
	"os"
	"strconv"
	"strings"
)

// jobserverVariables hold the flags of make, and what cargo hands to the programs it builds with.
var jobserverVariables = [...]string{"MAKEFLAGS", "CARGO_MAKEFLAGS"}

// lookup returns the last value of a variable, which is the one that os/exec passes on. A nil env is
// the environment of this process, as in [os/exec.Cmd].
func lookup(env []string, variable string) string {
	if env == nil {
		return os.Getenv(variable)
	}
	for i := len(env) - 1; i >= 0; i-- {
		if rest, ok := strings.CutPrefix(env[i], variable); ok && strings.HasPrefix(rest, "=") {
			return rest[1:]
		}
	}
	return ""
}

// jobserver finds the two ends of the pipe in the flags of make: --jobserver-auth=R,W since 4.2,
// --jobserver-fds=R,W before. The last one counts. A named FIFO (4.4) is opened by its users, negative
// numbers say that there is none.
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
