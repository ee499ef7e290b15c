//go:build !linux

package sys

import (
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// A UnixSocket is what the kernel says of a Unix socket.
type UnixSocket struct {
	Path      string
	Listening bool
	Peer      uint64
	Unread    int
}

// A File is the file behind a descriptor.
type File struct {
	Inode uint64
	Type  FileType
}

// A FileType is what a descriptor refers to.
type FileType int

// TypeFIFO is that of a pipe.
const TypeFIFO FileType = 1

// A FIFOMode is how an end of a pipe is opened.
type FIFOMode int

// The modes.
const (
	FIFORead FIFOMode = iota
	FIFOWrite
)

// CanInspect reports whether the functions below do anything.
const CanInspect = false

// What other processes do is only asked on Linux.

func PipeSize(int) (int, error)                   { return 0, errors.ErrUnsupported }
func ReadMemory(int, uint64, []byte) (int, error) { return 0, errors.ErrUnsupported }
func CPUTime(int) (time.Duration, error)          { return 0, errors.ErrUnsupported }
func ClockNow(int32) (time.Duration, error)       { return 0, errors.ErrUnsupported }
func StopSignal(int) syscall.Signal               { return 0 }
func NotPermitted(error) bool                     { return false }

func FindUnixSocket(uint64) (UnixSocket, error) { return UnixSocket{}, errors.ErrUnsupported }
func FileOf(int) (File, error)                  { return File{}, errors.ErrUnsupported }
func TypeAt(string) (FileType, error)           { return 0, errors.ErrUnsupported }
func ReopenFIFO(string, FIFOMode, func(int)) error {
	return errors.ErrUnsupported
}
func TCPSilence(uint64, netip.AddrPort, netip.AddrPort) (time.Duration, error) {
	return -1, errors.ErrUnsupported
}
