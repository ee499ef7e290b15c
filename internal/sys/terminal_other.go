//go:build !linux

package sys

import (
	"errors"
	"syscall"
)

// TerminalModes have no counterpart here, nor has anything else in this file: a thread's signals can
// not be blocked, and without that the terminal cannot be taken back.
type TerminalModes struct{}

func OpenTerminal() (int, error)                  { return -1, errors.ErrUnsupported }
func OwnGroup() int                               { return 0 }
func ForegroundGroup(int) (int, error)            { return 0, errors.ErrUnsupported }
func SetForegroundGroup(int, int) error           { return errors.ErrUnsupported }
func GetTerminalModes(int) (TerminalModes, error) { return TerminalModes{}, errors.ErrUnsupported }
func SetTerminalModes(int, TerminalModes) error   { return errors.ErrUnsupported }
func Echoes(TerminalModes) bool                   { return true }
func DiscardInput(int) error                      { return errors.ErrUnsupported }
func WaitStopped(int) syscall.Signal              { return 0 }
func KilledUnreaped(int) bool                     { return false }
func WithSignalsBlocked(func()) error             { return errors.ErrUnsupported }

func NewForeground(*syscall.SysProcAttr, int) (*syscall.SysProcAttr, bool) { return nil, false }
