package diagnose

import (
	"bytes"
	"encoding/binary"
	"math"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// bytesAt reads memory of the thread's process. A 32-bit program's structures are not looked at.
func (d *decoder) bytesAt(addr uint64, size int) ([]byte, bool) {
	if addr == 0 || d.narrow || size <= 0 {
		return nil, false
	}
	b, ok := d.read(addr, size)
	return b, ok && len(b) == size
}

// read reads up to size bytes.
func (d *decoder) read(addr uint64, size int) ([]byte, bool) {
	pid := d.p.PID
	return ask(d.c, pid, func() ([]byte, error) {
		b := make([]byte, size)
		n, err := sys.ReadMemory(pid, addr, b)
		return b[:n], err
	})
}

// stringAt reads a string that ends in NUL. It stops at the end of a page, behind which there may be
// nothing, and goes on with the next one.
func (d *decoder) stringAt(addr uint64, most int) (string, bool) {
	const page = 4096
	var text []byte
	for len(text) < most && !d.narrow && addr != 0 {
		b, ok := d.read(addr, min(most-len(text), int(page-addr%page)))
		if !ok || len(b) == 0 {
			return "", false
		}
		if end := bytes.IndexByte(b, 0); end >= 0 {
			return string(append(text, b[:end]...)), true
		}
		text = append(text, b...)
		addr += uint64(len(b))
	}
	return "", false
}

// timespecAt reads a struct timespec; -1 if there is none.
func (d *decoder) timespecAt(addr uint64) time.Duration {
	b, ok := d.bytesAt(addr, 16)
	if !ok {
		return -1
	}
	return parseTimespec(b)
}

// parseTimespec is for the layout of 64-bit kernels. Nonsense is -1, what is longer than a Duration
// the longest one.
func parseTimespec(b []byte) time.Duration {
	sec := int64(binary.NativeEndian.Uint64(b))
	nsec := int64(binary.NativeEndian.Uint64(b[8:]))
	switch {
	case sec < 0 || nsec < 0 || nsec >= int64(time.Second):
		return -1
	case sec >= math.MaxInt64/int64(time.Second):
		return math.MaxInt64
	}
	return time.Duration(sec)*time.Second + time.Duration(nsec)
}

// untilClock returns how far a point in time of a clock is ahead; -1 if the clock cannot be read.
func untilClock(clock int32, at time.Duration) time.Duration {
	now, err := sys.ClockNow(clock)
	if err != nil {
		return -1
	}
	return max(at-now, 0)
}

// millis is a timeout in milliseconds, as poll(2) takes it; negative is for ever.
func millis(arg uint64) time.Duration {
	if n := int32(arg); n >= 0 {
		return time.Duration(n) * time.Millisecond
	}
	return -1
}

// A futex of glibc that is a mutex holds 0, 1 or 2 for waiters; its owner stands two words later. One
// with priority inheritance holds the owner itself. pthread_join(3) waits for the word that holds the
// TID of the thread to become 0.
const (
	futexWait       = 0
	futexLockPI     = 6
	futexWaitBitset = 9
	futexWaitPI     = 11
	futexLockPI2    = 13
	futexCommands   = 1<<7 - 1
	futexTIDMask    = 1<<30 - 1
	mutexContended  = 2
	mutexOwnerAt    = 8
)

// futex finds out which thread holds what the thread waits for, where the memory tells.
func (d *decoder) futex(name string) {
	d.call.Wait = WaitFutex
	op, value := d.args[1], uint32(d.args[2])
	command := int(op & futexCommands)
	if name == "futex_wait" {
		command = futexWait
		value = uint32(d.args[1])
	}
	if name == "futex" {
		switch command {
		case futexWait:
			d.call.Left = d.timespecAt(d.args[3])
		case futexWaitBitset, futexLockPI, futexLockPI2, futexWaitPI:
			const clockRealtime = 1 << 8
			clock := int32(1)
			if op&clockRealtime != 0 || command == futexLockPI {
				clock = 0
			}
			if at := d.timespecAt(d.args[3]); at >= 0 {
				d.call.Left = untilClock(clock, at)
			}
		}
	}
	b, ok := d.bytesAt(d.args[0], mutexOwnerAt+4)
	if !ok {
		return
	}
	word := binary.NativeEndian.Uint32(b)
	owner := binary.NativeEndian.Uint32(b[mutexOwnerAt:])
	d.call.Owner = futexOwner(command, value, word, owner)
}

// futexOwner returns the TID that a futex names, if it is one of a kind that does.
func futexOwner(command int, value, word, owner uint32) int {
	switch {
	case command == futexLockPI || command == futexLockPI2:
		return int(word & futexTIDMask)
	case value == mutexContended && word == mutexContended && owner <= futexTIDMask:
		return int(owner)
	case value > mutexContended && value == word && value <= futexTIDMask:
		return int(value) // only if there is such a thread in the process
	}
	return 0
}
