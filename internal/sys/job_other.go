//go:build !linux

package sys

import (
	"errors"
	"syscall"
	"time"
)

// Package job is for Linux alone.

func Boottime() (time.Duration, error)                { return 0, errors.ErrUnsupported }
func TryLock(int, int64) (bool, error)                { return false, errors.ErrUnsupported }
func LockHeld(int, int64) (bool, error)               { return false, errors.ErrUnsupported }
func PunchHole(int, int64, int64) error               { return errors.ErrUnsupported }
func DataFrom(int, int64) (int64, error)              { return 0, errors.ErrUnsupported }
func NoData(error) bool                               { return false }
func NoReader(error) bool                             { return false }
func WatchWrites(string) (int, error)                 { return -1, errors.ErrUnsupported }
func ArmWatch(int, string) error                      { return errors.ErrUnsupported }
func UmaskThread(int) error                           { return errors.ErrUnsupported }
func MakeFIFO(string, uint32) error                   { return errors.ErrUnsupported }
func PassCredentials(int) error                       { return errors.ErrUnsupported }
func SenderOf([]byte) (pid int, fds []int)            { return 0, nil }
func MayTraceAll() bool                               { return false }
func WaitStatus(int) (status syscall.WaitStatus)      { return status }
func Private(string) (bool, error)                    { return false, errors.ErrUnsupported }
func UserOf(*syscall.SysProcAttr) (*User, bool)       { return nil, false }
func (*User) Attr() *syscall.SysProcAttr              { return nil }
func ExitOf(int) (status syscall.WaitStatus, ok bool) { return status, false }

// A User is what SysProcAttr.Credential says.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Keep     bool // the supplementary groups of this process
}
