// Package poll stands in for the one function of Go's internal/poll that the tests of os/exec call.
// It is the only one of their internal imports that cannot be copied from the toolchain: its
// answer comes from the runtime.
package poll

import _ "unsafe" // for go:linkname

// IsPollDescriptor reports whether fd is one of those that the runtime's poller opened.
func IsPollDescriptor(fd uintptr) bool { return isPollServerDescriptor(fd) }

//go:linkname isPollServerDescriptor internal/poll.runtime_isPollServerDescriptor
func isPollServerDescriptor(fd uintptr) bool
