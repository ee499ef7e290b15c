//go:build !unix

package testproc

import (
	"os"
	"testing"
)

// A Canary proves that a process tree is gone, on Unix only.
type Canary struct{}

// NewCanary skips the test.
func NewCanary(t testing.TB) *Canary {
	t.Helper()
	t.Skip("a canary needs pipes that children inherit")
	return nil
}

// File returns nil.
func (c *Canary) File() *os.File { return nil }

// CloseParent does nothing.
func (c *Canary) CloseParent() {}

// Alive returns false.
func (c *Canary) Alive() bool { return false }

// WaitGone does nothing.
func (c *Canary) WaitGone(t testing.TB) {}

// Holders returns nil.
func (c *Canary) Holders() []int { return nil }

// Living returns nil.
func (c *Canary) Living() []string { return nil }
