package diagnose

import (
	"fmt"
	"os"
	"testing"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	if unknown := sys.Disable(testproc.Disabled()...); unknown != "" {
		fmt.Fprintf(os.Stderr, "%s: nothing is called %q\n", testproc.DisableVariable, unknown)
		os.Exit(2)
	}
	testproc.Main(m)
}
