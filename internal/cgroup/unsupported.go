//go:build !linux

package cgroup

import (
	"errors"
	"syscall"
	"time"
)

// A Leaf is never made here.
type Leaf struct{}

// Make is not to be had.
func Make(string) (*Leaf, error) { return nil, unsupported() }

// RemoveStale is not to be had.
func RemoveStale(string) (int, error) { return 0, unsupported() }

// EndStale is not to be had.
func EndStale(string) (bool, error) { return false, unsupported() }

// Watch is not to be had.
func Watch(string) (*Leaf, error) { return nil, unsupported() }

// Named reports that attr names none.
func Named(*syscall.SysProcAttr) bool { return false }

func unsupported() error { return &Error{Op: "make a leaf", Err: errors.ErrUnsupported} }

func (*Leaf) Dir() string                   { return "" }
func (*Leaf) Attach(*syscall.SysProcAttr)   {}
func (*Leaf) Limit(Limits) error            { return unsupported() }
func (*Leaf) Refusal() error                { return unsupported() }
func (*Leaf) EventsFD() int                 { return -1 }
func (*Leaf) Populated() (bool, error)      { return false, unsupported() }
func (*Leaf) PIDs(func(pid int) bool) error { return unsupported() }
func (*Leaf) Contains(int) bool             { return false }
func (*Leaf) OOMKilled() bool               { return false }
func (*Leaf) MemoryPeak() (int64, bool)     { return 0, false }
func (*Leaf) Freeze() (func(), error)       { return nil, unsupported() }
func (*Leaf) Kill() error                   { return unsupported() }
func (*Leaf) Remove(time.Time) error        { return unsupported() }
func (*Leaf) Close()                        {}

func (*Leaf) CPU() (user, system time.Duration, ok bool) { return 0, 0, false }
