//go:build !linux

package sys

import "errors"

// RTTimeLimit has no counterpart here.
func RTTimeLimit(int) (soft, hard uint64, err error) { return 0, 0, errors.ErrUnsupported }

// SetRTTimeLimit has no counterpart here.
func SetRTTimeLimit(int, uint64, uint64) (uint64, error) { return 0, errors.ErrUnsupported }

// A Schedule has no counterpart here.
type Schedule struct{}

// ScheduleOf has no counterpart here.
func ScheduleOf(int) (Schedule, error) { return Schedule{}, errors.ErrUnsupported }

// Slice has no counterpart here.
func (s *Schedule) Slice() uint64 { return 0 }

// SetSlice has no counterpart here.
func (s *Schedule) SetSlice(uint64) error { return errors.ErrUnsupported }

// OpenFilesMax cannot be told.
func OpenFilesMax() int { return 0 }

// Denied reports whether err says that we may not.
func Denied(error) bool { return false }

// SetSubreaper has no counterpart here that is made use of.
func SetSubreaper() error { return errors.ErrUnsupported }

// Adopts is false: see SetSubreaper.
func Adopts() bool { return false }

// ReapPidfd has no counterpart here.
func ReapPidfd(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }

// Reap is not needed here.
func Reap(int) (Usage, error) { return Usage{}, errors.ErrUnsupported }
