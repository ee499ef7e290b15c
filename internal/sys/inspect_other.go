//go:build !linux

package sys

import (
	"errors"
	"net/netip"
	"syscall"
	"time"
)

// A SocketInfo is what a socket says of itself.
type SocketInfo struct {
	Family, Type, Protocol   int
	Local, Remote            netip.AddrPort
	LocalPath, RemotePath    string
	Connected, Listening     bool
	PeerPID                  int
	State                    uint8
	Unread, Unsent           int
	SinceReceived, SinceSent time.Duration
}

// Stand-ins: no socket is ever inspected.
const (
	FamilyUnix = -1 - iota
	FamilyIPv4
	FamilyIPv6
	SocketTCP
	SocketUDP
	SocketFlow
	SocketDgram
)

// CanInspect reports whether the functions below do anything.
const CanInspect = false

// What other processes do is only asked on Linux.

func BorrowFD(int, int, func(int)) error          { return errors.ErrUnsupported }
func ReopenReader(string, func(int)) error        { return errors.ErrUnsupported }
func ReopenWriter(string, func(int)) error        { return errors.ErrUnsupported }
func PipeSize(int) (int, error)                   { return 0, errors.ErrUnsupported }
func ReadMemory(int, uint64, []byte) (int, error) { return 0, errors.ErrUnsupported }
func CPUTime(int) (time.Duration, error)          { return 0, errors.ErrUnsupported }
func ClockNow(int32) (time.Duration, error)       { return 0, errors.ErrUnsupported }
func StopSignal(int) syscall.Signal               { return 0 }
func InspectSocket(int) (SocketInfo, error)       { return SocketInfo{}, errors.ErrUnsupported }
func NotPermitted(error) bool                     { return false }
