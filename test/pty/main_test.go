package pty_test

import (
	"os/exec"
	"testing"

	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestMain(m *testing.M) { testrun.Main(m) }

func sh(script string) *exec.Cmd { return exec.Command("sh", "-c", script) }
