package sys

import (
	"testing"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(Disable)
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
