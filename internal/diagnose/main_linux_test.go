package diagnose

import (
	"testing"

	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) {
	testproc.Disable(sys.Disable)
	testproc.Main(m)
}
