package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// DisableVariable names what this run of the tests has to do without, separated by commas:
// SAFEEXEC_TEST_DISABLE=pidfd,close_range.
const DisableVariable = "SAFEEXEC_TEST_DISABLE"

// Disabled returns the names in DisableVariable, without empty ones; nil if there are none.
func Disabled() []string {
	return strings.FieldsFunc(os.Getenv(DisableVariable), func(r rune) bool {
		return r == ',' || r == ' '
	})
}

// Disable has disable force off what DisableVariable names. The process ends if that returns a name that it does not
// know. TestMain calls it first: a process with a role obeys as well.
func Disable(disable func(names ...string) (unknown string)) {
	if unknown := disable(Disabled()...); unknown != "" {
		fmt.Fprintf(os.Stderr, "%s: there is no %q\n", DisableVariable, unknown)
		os.Exit(2)
	}
}

// IsDisabled reports whether DisableVariable holds the name.
func IsDisabled(name string) bool {
	return slices.Contains(Disabled(), name)
}

// Unprivileged reports whether the tests run as an ordinary user.
func Unprivileged() bool {
	return os.Geteuid() != 0
}

// HasProgram returns the path of the program, or skips the test where it is not installed.
func HasProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if system := "/usr/bin/" + name; name == "python3" && isProgram(system) {
		path, err = system, nil // the first in PATH may be a script that looks for it, with processes of its own
	}
	if err != nil {
		t.Skipf("needs the program %s: %v", name, err)
	}
	return path
}

func isProgram(path string) bool {
	_, err := exec.LookPath(path)
	return err == nil
}
