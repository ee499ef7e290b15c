package terminal_test

import (
	"testing"

	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestMain(m *testing.M) { testrun.Main(m) }
