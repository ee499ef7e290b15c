//go:build !linux

package testproc

import (
	"os"
	"testing"
)

type process struct {
	pid int
}

// State returns 0: states are read on Linux only.
func State(pid int) byte { return 0 }

// WaitState skips the test: states are read on Linux only.
func WaitState(t testing.TB, pid int, states string) {
	t.Helper()
	t.Skip("process states are read on Linux only")
}

// Dead reports whether there is no process of that number.
func Dead(pid int) bool {
	_, err := os.FindProcess(pid)
	return err != nil
}

func descendants() []string { return nil }

func holders(target string) []process { return nil }

func holds(pid int, target string) bool { return false }

func aboutToExec(target string) bool { return false }
