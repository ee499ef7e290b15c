// Package sys is what proctree uses of the real one, on a simulated kernel.
package sys

import (
	"fmt"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/model/testdata/kernel"
	"github.com/seed841d8200/safeexec/internal/sys"
)

const (
	Supported = true
	SIGCONT   = sys.SIGCONT
	SIGSTOP   = sys.SIGSTOP
	SIGTSTP   = sys.SIGTSTP
	SIGTTIN   = sys.SIGTTIN
	SIGTTOU   = sys.SIGTTOU

	Pidfd       = sys.Pidfd
	Sweep       = sys.Sweep
	EnvironMark = sys.EnvironMark
)

type Usage = sys.Usage

var (
	ChangesUser = sys.ChangesUser
	Denied      = sys.Denied
	DevNull     = sys.DevNull
	FileKeyAt   = sys.FileKeyAt
	Gone        = sys.Gone
	IsFileKey   = sys.IsFileKey
	IsThread    = sys.IsThread
	NewSession  = sys.NewSession
	NoChild     = sys.NoChild
	NoPidfds    = sys.NoPidfds
	Traced      = sys.Traced
	WaitStatus  = sys.WaitStatus
)

func Enabled(f sys.Feature) bool { return f != sys.Pidfd || kernel.K.Pidfds }

func Adopts() bool                         { return kernel.K.Subreaper }
func MayTraceAll() bool                    { return true }
func OpenFilesMax() int                    { return 1024 }
func SetSubreaper() error                  { return nil }
func WaitExit(int) error                   { return syscall.EINVAL }
func WaitStopped(int) syscall.Signal       { return 0 }
func KilledUnreaped(int) bool              { return false }
func ExitedUnreaped(pid int) (bool, error) { return kernel.K.Wait(pid) }
func Reap(pid int) (Usage, error)          { return Usage{}, kernel.K.ReapPID(pid) }
func ReapPidfd(fd int) (Usage, error)      { return Usage{}, kernel.K.ReapFD(fd) }
func PidfdOpen(pid int) (int, error)       { return kernel.K.Open(pid) }
func Close(fd int)                         { kernel.K.Close(fd) }
func Dup(fd int) (int, error)              { return -1, syscall.EMFILE }
func Kill(pid int, s syscall.Signal) error { return kernel.K.Kill(pid, s) }

func PidfdSignal(fd int, s syscall.Signal) error      { return kernel.K.SignalFD(fd, s) }
func PidfdSignalGroup(fd int, s syscall.Signal) error { return kernel.K.SignalGroupFD(fd, s) }

type Readiness = sys.Readiness

func Ready(fd int) (Readiness, error) {
	exited, err := kernel.K.Exited(fd)
	return Readiness{Readable: exited}, err
}

func Session(pid int) (int, error) {
	p, err := kernel.K.Process(pid)
	if err != nil {
		return 0, err
	}
	return p.Session, nil
}

func Group(pid int) (int, error) {
	p, err := kernel.K.Process(pid)
	if err != nil {
		return 0, err
	}
	return p.Group, nil
}

func RTTimeLimit(pid int) (soft, hard uint64, err error) {
	p, err := kernel.K.Process(pid)
	if err != nil {
		return 0, 0, err
	}
	return p.Soft, p.Hard, nil
}

func SetRTTimeLimit(pid int, soft, hard uint64) (uint64, error) {
	p, err := kernel.K.Process(pid)
	if err != nil {
		return 0, err
	}
	before := p.Soft
	p.Soft, p.Hard = soft, hard
	return before, nil
}

type Schedule struct{ slice uint64 }

func ScheduleOf(pid int) (Schedule, error) {
	switch {
	case !kernel.K.Slices:
		return Schedule{}, syscall.ENOSYS
	case pid == 0:
		return Schedule{kernel.K.Thread}, nil
	}
	p, err := kernel.K.Process(pid)
	if err != nil {
		return Schedule{}, err
	}
	return Schedule{p.Slice}, nil
}

func (s *Schedule) Slice() uint64 { return s.slice }

func (s *Schedule) SetSlice(ns uint64) error {
	kernel.K.Thread = ns
	return nil
}

func ReadLoadavg(b []byte) (int, error) {
	return copy(b, fmt.Sprintf("0.00 0.00 0.00 1/2 %d\n", kernel.K.Last())), nil
}
