package cgroup

import (
	"strconv"
	"strings"
)

// namePrefix begins the name of every leaf.
const namePrefix = "safeexec-"

// newName returns the name of a new leaf, safeexec-PID-RANDOM.
func newName(pid int, random uint64) string {
	return namePrefix + strconv.Itoa(pid) + "-" + strconv.FormatUint(random, 16)
}

// isName reports whether newName makes such names. What has the name is taken for a leaf and may be
// killed, so that a prefix is not enough: a unit may be called safeexec-worker.service.
func isName(name string) bool {
	rest, ok := strings.CutPrefix(name, namePrefix)
	pid, random, cut := strings.Cut(rest, "-")
	return ok && cut && consistsOf(pid, "0123456789") &&
		len(random) <= 16 && consistsOf(random, "0123456789abcdef")
}

// consistsOf reports whether s has characters, and none but those.
func consistsOf(s, characters string) bool {
	return s != "" && strings.Trim(s, characters) == ""
}
