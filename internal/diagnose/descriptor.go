package diagnose

import (
	"cmp"
	"errors"
	"os"
	"slices"
	"strings"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// resolve adds a descriptor to the call: what it is, how full it is, what has its other end.
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
		d.describe(&r, link)
	}
	d.call.FDs = append(d.call.FDs, r)
}

func (d *decoder) describe(r *Descriptor, link string) {
	target := procfs.ParseFDTarget(link)
	r.Inode = target.Inode
	switch target.Kind {
	case procfs.FDPipe:
		r.Kind = "pipe"
		d.pipe(r, link)
	case procfs.FDSocket:
		r.Kind = "socket"
		d.socket(r)
	case procfs.FDAnon:
		r.Kind = target.Name
		if info, ok := d.c.fdInfo(d.p.PID, d.t.TID, r.FD); ok {
			r.Watched, r.PID = len(info.Epoll), info.PID
			if info.Pidfd {
				d.c.want(info.PID)
			}
		}
	case procfs.FDPath:
		r.Path = target.Name
		r.Kind = d.pathKind(r.FD, link)
		if r.Kind == "FIFO" {
			d.pipe(r, link)
		}
	default:
		r.Kind = target.Kind.String()
		r.Path = target.Name
	}
}

// pathKind tells by the name, and of others by what the descriptor is. No file system is asked: a dead
// one would not answer.
func (d *decoder) pathKind(fd int, link string) string {
	switch {
	case strings.HasPrefix(link, "/dev/pts/") || strings.HasPrefix(link, "/dev/tty") || link == "/dev/console":
		return "terminal"
	case strings.HasPrefix(link, "/dev/"):
		return "device"
	}
	if kind, err := sys.TypeAt(fdPath(d.p.PID, fd)); err == nil && kind == sys.TypeFIFO {
		return "FIFO"
	}
	return "file"
}

// pipe fills in how full a pipe is and which processes have its other end.
func (d *decoder) pipe(r *Descriptor, link string) {
	if found, ok := d.c.fill(End{PID: d.p.PID, FD: r.FD}, r.Inode); ok {
		r.Filled, r.Size = found.filled, found.size
	}
	r.link, r.asker = link, d.p.PID
	d.c.findEnds(r)
	d.wantEnds(r.Ends)
}

// A fill is how full a pipe is.
type fill struct{ filled, size int }

var errOtherPipe = errors.New("another pipe")

// fill measures the pipe behind an end, if it still has the inode; 0 is any. It opens the end anew, in the
// mode in which it is open, so that no process sees a pipe gain or lose its last reader or writer.
func (c *collector) fill(end End, inode uint64) (fill, bool) {
	return ask(c, end.PID, func() (found fill, err error) {
		path := fdPath(end.PID, end.FD)
		st, err := os.Lstat(path)
		if err != nil {
			return found, err
		}
		mode := sys.FIFOWrite
		if st.Mode().Perm()&readEnd != 0 {
			mode = sys.FIFORead
		}
		var fault error
		err = sys.ReopenFIFO(path, mode, func(fd int) {
			if file, err := sys.FileOf(fd); err != nil || inode != 0 && file.Inode != inode {
				fault = errOtherPipe
				return
			}
			found.filled, fault = sys.Unread(fd)
			if fault == nil {
				found.size, fault = sys.PipeSize(fd)
			}
		})
		return found, cmp.Or(err, fault)
	})
}

// findEnds fills in the other ends of a pipe, as far as descriptors were listed by now.
func (c *collector) findEnds(r *Descriptor) {
	other := readEnd
	if r.Reading {
		other = writeEnd
	}
	r.Ends = c.ends.of(r.link, other, r.asker)
	r.EndsKnown = c.ends.known()
}

// findMoreEnds does that again for all pipes, once the descriptors of all processes are listed.
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
