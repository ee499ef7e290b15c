package diagnose

import (
	"encoding/binary"
	"time"
)

// maxWatched bounds how many descriptors of one call are resolved.
const maxWatched = 16

// poll reads the list of descriptors that poll(2) waits for.
func (d *decoder) poll(name string) {
	d.call.Wait = WaitReady
	if name == "poll" {
		d.call.Left = millis(d.args[2])
	} else if name == "ppoll" {
		d.call.Left = d.timespecAt(d.args[2]) // the kernel writes it back at the end
	}
	n := int(min(d.args[1], maxPolled))
	b, ok := d.bytesAt(d.args[0], n*pollFDSize)
	if !ok {
		return
	}
	for _, w := range parsePollFDs(b) {
		d.resolve(w.fd, w.wait)
	}
	if n == 0 {
		d.call.Wait = WaitTime // a sleep, as old programs do it
	}
}

// selects reads the sets of descriptors that select(2) waits for.
func (d *decoder) selects(name string) {
	d.call.Wait = WaitReady
	switch name {
	case "pselect6":
		d.call.Left = d.timespecAt(d.args[4])
	case "select", "_newselect":
		if b, ok := d.bytesAt(d.args[4], 16); ok {
			usec := binary.NativeEndian.Uint64(b[8:])
			if usec < 1e6 {
				binary.NativeEndian.PutUint64(b[8:], usec*1000)
				d.call.Left = parseTimespec(b)
			}
		}
	}
	n := int(min(d.args[0], maxPolled))
	none := true
	for set, wait := range []Wait{WaitRead, WaitWrite, WaitRead} {
		// Sets are arrays of long.
		b, ok := d.bytesAt(d.args[1+set], fdSetSize(n))
		if !ok {
			continue
		}
		for _, fd := range parseFDSet(b, n) {
			none = false
			d.resolve(fd, wait)
		}
	}
	if none && d.args[1] == 0 && d.args[2] == 0 && d.args[3] == 0 {
		d.call.Wait = WaitTime
	}
}

// epoll reads what an epoll descriptor watches. Its numbers may by now be other files, see epoll(7);
// one whose inode differs is left out.
func (d *decoder) epoll(name string) {
	d.call.Wait = WaitReady
	if name == "epoll_pwait2" {
		d.call.Left = d.timespecAt(d.args[3])
	} else {
		d.call.Left = millis(d.args[3])
	}
	fd := d.fd(0)
	info, ok := d.c.fdInfo(d.p.PID, d.t.TID, fd)
	if !ok {
		return
	}
	for _, target := range info.Epoll {
		const in, out = 1, 4
		wait := WaitRead
		if target.Events&out != 0 && target.Events&in == 0 {
			wait = WaitWrite
		}
		d.resolve(target.FD, wait)
		if last := len(d.call.FDs) - 1; last >= 0 && target.Inode != 0 && d.call.FDs[last].Inode != 0 &&
			d.call.FDs[last].Inode != target.Inode {
			d.call.FDs = d.call.FDs[:last]
		}
	}
	if d.call.Left > 0 && d.call.Left > 100*365*24*time.Hour {
		d.call.Left = -1
	}
}

// maxPolled bounds how many descriptors of a call are read from memory.
const maxPolled = 1024

// A watched is one descriptor that a call waits for.
type watched struct {
	fd   int
	wait Wait
}

// pollFDSize is that of struct pollfd: int fd, short events, short revents.
const pollFDSize = 8

// parsePollFDs parses the list of poll(2). A negative number switches an entry off.
func parsePollFDs(b []byte) []watched {
	const in, out = 1, 4
	var list []watched
	for ; len(b) >= pollFDSize; b = b[pollFDSize:] {
		fd := int(int32(binary.NativeEndian.Uint32(b)))
		events := binary.NativeEndian.Uint16(b[4:])
		switch {
		case fd < 0:
		case events&out != 0 && events&in == 0:
			list = append(list, watched{fd, WaitWrite})
		default:
			list = append(list, watched{fd, WaitRead})
		}
	}
	return list
}

// fdSetSize is the size of a set of n descriptors of select(2), an array of long.
func fdSetSize(n int) int { return (n + 63) / 64 * 8 }

// parseFDSet returns those below n that are in a set.
func parseFDSet(b []byte, n int) []int {
	var fds []int
	for fd := range min(n, len(b)/8*64) {
		if binary.NativeEndian.Uint64(b[fd/64*8:])>>(fd%64)&1 != 0 {
			fds = append(fds, fd)
		}
	}
	return fds
}
