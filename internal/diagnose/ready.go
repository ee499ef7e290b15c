package diagnose

import (
	"encoding/binary"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
)

// maxWatched bounds how many descriptors of one call are resolved.
const maxWatched = 16

// poll reads the list of descriptors that poll(2) waits for.
func (d *decoder) poll(name string) {
	const pollOut = 4
	d.call.Wait = WaitReady
	if name == "poll" {
		d.call.Left = millis(d.args[2])
	} else if name == "ppoll" {
		d.call.Left = d.timespecAt(d.args[2]) // the kernel writes it back at the end
	}
	const size = 8 // of struct pollfd: int fd, short events, short revents
	n := int(min(d.args[1], 1024))
	b, ok := d.bytesAt(d.args[0], n*size)
	if !ok {
		return
	}
	for ; len(b) >= size; b = b[size:] {
		fd := int(int32(binary.NativeEndian.Uint32(b)))
		events := binary.NativeEndian.Uint16(b[4:])
		if fd < 0 {
			continue
		}
		wait := WaitRead
		if events&pollOut != 0 && events&1 == 0 {
			wait = WaitWrite
		}
		d.resolve(fd, wait)
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
	n := int(min(d.args[0], 1024))
	none := true
	for set, wait := range []Wait{WaitRead, WaitWrite, WaitRead} {
		// Sets are arrays of long.
		b, ok := d.bytesAt(d.args[1+set], (n+63)/64*8)
		if !ok {
			continue
		}
		for fd := range n {
			if binary.NativeEndian.Uint64(b[fd/64*8:])>>(fd%64)&1 != 0 {
				none = false
				d.resolve(fd, wait)
			}
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
	info, err := procfs.ReadThreadFDInfo(d.p.PID, d.t.TID, fd)
	if err != nil {
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
