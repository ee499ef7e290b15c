package diagnose

import (
	"os"
	"slices"
	"strings"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// resolve adds a descriptor to the call: what it is, how full it is, who is at its other end.
func (d *decoder) resolve(fd int, wait Wait) {
	if len(d.call.FDs) >= maxWatched {
		return
	}
	r := Descriptor{
		FD: fd, Kind: "unknown", Filled: -1, Size: -1, Unread: -1, Unsent: -1, Silent: -1,
		Reading: wait == WaitRead || wait == WaitAccept,
	}
	link, err := os.Readlink("/proc/" + number(d.p.PID) + "/task/" + number(d.t.TID) + "/fd/" + number(fd))
	if err == nil {
		d.describe(&r, link, wait)
	}
	d.call.FDs = append(d.call.FDs, r)
}

func (d *decoder) describe(r *Descriptor, link string, wait Wait) {
	target := procfs.ParseFDTarget(link)
	r.Inode = target.Inode
	switch target.Kind {
	case procfs.FDPipe:
		r.Kind = "pipe"
		d.pipe(r, link, wait)
	case procfs.FDSocket:
		r.Kind = "socket"
		d.socket(r)
	case procfs.FDAnon:
		r.Kind = target.Name
		if info, err := procfs.ReadThreadFDInfo(d.p.PID, d.t.TID, r.FD); err == nil {
			r.Watched, r.PID = len(info.Epoll), info.PID
			if info.Pidfd {
				d.c.want(info.PID)
			}
		}
	case procfs.FDPath:
		r.Path = target.Name
		r.Kind = d.pathKind(link)
		if r.Kind == "FIFO" {
			d.pipe(r, link, wait)
		}
	default:
		r.Kind = target.Kind.String()
		r.Path = target.Name
	}
}

// pathKind tells by the name and by where in the kernel the thread waits, and never by looking at the
// file: for stat(2), and for close(2) of a duplicate, a dead file system would have to answer.
func (d *decoder) pathKind(link string) string {
	switch {
	case strings.HasPrefix(link, "/dev/pts/") || strings.HasPrefix(link, "/dev/tty") || link == "/dev/console":
		return "terminal"
	case strings.HasPrefix(link, "/dev/"):
		return "device"
	}
	if wchan, _ := procfs.ReadWchan(d.p.PID, d.t.TID); strings.Contains(wchan, "pipe") {
		return "FIFO"
	}
	return "file"
}

// pipe fills in how full a pipe is and who has its other end.
func (d *decoder) pipe(r *Descriptor, link string, wait Wait) {
	measure := func(fd int) {
		if n, err := sys.Unread(fd); err == nil {
			r.Filled = n
		}
		if n, err := sys.PipeSize(fd); err == nil {
			r.Size = n
		}
	}
	if sys.BorrowFD(d.p.PID, r.FD, measure) != nil && r.Kind == "pipe" {
		_ = d.reopen(r.FD, wait, measure)
	}
	r.link, r.asker = link, d.p.PID
	d.c.findEnds(r)
	d.wantEnds(r.Ends)
}

// reopen is for where a descriptor can not be duplicated. What is opened is an end that is there.
func (d *decoder) reopen(fd int, wait Wait, f func(fd int)) error {
	if wait == WaitWrite {
		return sys.ReopenWriter(fdPath(d.p.PID, fd), f)
	}
	return sys.ReopenReader(fdPath(d.p.PID, fd), f)
}

// findEnds fills in who has the other end of a pipe, as far as descriptors were listed by now.
func (c *collector) findEnds(r *Descriptor) {
	other := readEnd
	if r.Reading {
		other = writeEnd
	}
	r.Ends = c.ends.of(r.link, other, r.asker)
	r.EndsKnown = c.ends.known()
}

// findMoreEnds does that again for all pipes, when the descriptors of everybody were listed.
func (c *collector) findMoreEnds() {
	for _, p := range c.processes {
		for i := range p.Threads {
			fds := slices.Clone(p.Threads[i].Call.FDs) // a report may have been published with them
			for j := range fds {
				if fds[j].link != "" && !fds[j].EndsKnown {
					c.findEnds(&fds[j])
					for _, end := range fds[j].Ends[:min(len(fds[j].Ends), firstKids)] {
						c.want(end.PID)
					}
				}
			}
			p.Threads[i].Call.FDs = fds
		}
	}
}

func (d *decoder) wantEnds(ends []End) {
	for i := min(len(ends), firstKids) - 1; i >= 0; i-- {
		d.c.want(ends[i].PID)
	}
}
