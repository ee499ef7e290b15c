//go:build !linux

package proctree

import "errors"

// A Resource is what a limit limits.
type Resource int

// The resources.
const (
	ResourceCPU Resource = iota
	ResourceAddressSpace
	ResourceOpenFiles
	ResourceProcesses
	ResourceFileSize
	ResourceCore
)

// SetLimit is not to be had.
func SetLimit(int, Resource, uint64) error { return errors.ErrUnsupported }

// SetNice is not to be had.
func SetNice(int, int) error { return errors.ErrUnsupported }
