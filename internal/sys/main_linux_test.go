package sys

import (
	"fmt"
	"os"
	"testing"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	if unknown := Disable(testproc.Disabled()...); unknown != "" {
		fmt.Fprintf(os.Stderr, "%s: there is no %q\n", testproc.DisableVariable, unknown)
		os.Exit(2)
	}
	testproc.Main(m, testproc.Warm(func() { // what is kept open for the life of the process
		DevNull()
		openLoadavg()
	}))
}

func skipDisabled(t *testing.T, name string) {
	t.Helper()
	if testproc.IsDisabled(name) {
		t.Skipf("%s=%s", testproc.DisableVariable, name)
	}
}
