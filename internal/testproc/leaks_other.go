//go:build !linux

package testproc

// systemBaseline is empty: children and descriptors are looked at on Linux only.
type systemBaseline struct{}

func recordSystem() systemBaseline { return systemBaseline{} }

func (systemBaseline) leaks() []string { return nil }

func (systemBaseline) killChildren() {}

// heedSignals does nothing: no test there sends a signal that the tests may have been started without.
func heedSignals() {}
