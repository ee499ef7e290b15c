//go:build !linux

package sys

import (
	"errors"
	"syscall"
)

// Everything here is [errors.ErrUnsupported].

func OpenPTY(uint16, uint16) (master, slave int, err error) { return -1, -1, errors.ErrUnsupported }
func ResizePTY(int, uint16, uint16) error                   { return errors.ErrUnsupported }
func GivePTY(int, *syscall.SysProcAttr)                     {}
func NewTerminal(*syscall.SysProcAttr, int) bool            { return false }
func FileKey(int) (uint64, error)                           { return 0, errors.ErrUnsupported }
func IsFileKey(uint64) bool                                 { return false }
func FileKeyAt(string) (uint64, error)                      { return 0, errors.ErrUnsupported }
