//go:build !linux && !darwin && !freebsd && !openbsd && !netbsd

package sys

import (
	"errors"
	"os"
	"syscall"
)

// Supported reports whether commands can be run on this platform.
const Supported = false

// Stand-ins for signals that are not known here: nothing is ever sent.
const (
	SIGSTOP = syscall.SIGTERM
	SIGCONT = syscall.SIGTERM
	SIGTSTP = syscall.Signal(-1)
	SIGTTIN = syscall.Signal(-2)
	SIGTTOU = syscall.Signal(-3)
)

// A Readiness says what was found of one descriptor.
type Readiness struct{ Readable, Writable, Hangup bool }

// Everything below is [errors.ErrUnsupported]: callers look at [Supported] first.

func Read(int, []byte) (int, error)              { return 0, errors.ErrUnsupported }
func Write(int, []byte) (int, error)             { return 0, errors.ErrUnsupported }
func Close(int)                                  {}
func Searchable(string) error                    { return errors.ErrUnsupported }
func SetNonblock(int) error                      { return errors.ErrUnsupported }
func Unread(int) (int, error)                    { return 0, errors.ErrUnsupported }
func Ready(int) (Readiness, error)               { return Readiness{}, errors.ErrUnsupported }
func Dup(int) (int, error)                       { return -1, errors.ErrUnsupported }
func Inode(int) (uint64, error)                  { return 0, errors.ErrUnsupported }
func Pipe() (r, w int, err error)                { return -1, -1, errors.ErrUnsupported }
func GrowPipe(int, int) (int, error)             { return 0, errors.ErrUnsupported }
func SetPipeSize(int, int) error                 { return errors.ErrUnsupported }
func NonblockPipe(int) error                     { return errors.ErrUnsupported }
func PidfdOpen(int) (int, error)                 { return -1, errors.ErrUnsupported }
func PidfdSignal(int, syscall.Signal) error      { return errors.ErrUnsupported }
func PidfdSignalGroup(int, syscall.Signal) error { return errors.ErrUnsupported }
func Kill(int, syscall.Signal) error             { return errors.ErrUnsupported }
func Session(int) (int, error)                   { return 0, errors.ErrUnsupported }
func Group(int) (int, error)                     { return 0, errors.ErrUnsupported }
func WaitExit(int) error                         { return errors.ErrUnsupported }
func ExitedUnreaped(int) (bool, error)           { return false, errors.ErrUnsupported }
func ReadLoadavg([]byte) (int, error)            { return 0, errors.ErrUnsupported }
func DevNull() (*os.File, error)                 { return nil, errors.ErrUnsupported }
func Traced(*syscall.SysProcAttr) bool           { return false }
func ChangesRoot(*syscall.SysProcAttr) bool      { return false }
func ChangesUser(*syscall.SysProcAttr) bool      { return false }
func IsThread(error) bool                        { return false }
func NoPidfds(error) bool                        { return true }
func Gone(error) bool                            { return false }
func NoChild(error) bool                         { return false }

func NewSession(attr *syscall.SysProcAttr) (*syscall.SysProcAttr, bool) { return attr, true }
