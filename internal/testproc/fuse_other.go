//go:build !linux

package testproc

import "testing"

// HungMount skips the test: hung file systems are made on Linux only.
func HungMount(t testing.TB) string {
	t.Helper()
	t.Skip("hung file systems are made on Linux only")
	return ""
}

// HungFile skips the test: hung file systems are made on Linux only.
func HungFile(t testing.TB) string {
	t.Helper()
	t.Skip("hung file systems are made on Linux only")
	return ""
}

// WaitHung waits for nothing.
func WaitHung(testing.TB, string) {}
