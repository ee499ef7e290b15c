package fdtable

import (
	"strconv"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Audit lists the descriptors of this process in ascending order, with the processes at the other
// end of each pipe.
func Audit() ([]FD, error) {
	declared := atBirth.declaredBy(nil)
	var open []int
	err := procfs.WalkFDNumbers(procfs.Self, func(fd int) bool {
		open = append(open, fd)
		return true
	})
	var list []FD
	for _, fd := range open {
		if d, err := describe(fd); err == nil { // what is closed by now, as that of the walk, is not
			d.Declared = declares(declared, fd)
			list = append(list, d)
		}
	}
	findPeers(list)
	return list, err
}

// describe tells what fd is. The error is EBADF if it is not open.
func describe(fd int) (FD, error) {
	file, err := sys.FileOf(fd)
	if err != nil {
		return FD{}, err
	}
	d := FD{Num: fd, Born: atBirth.has(fd, file)}
	mode, _ := sys.ModeOf(fd)
	d.Read, d.Write, d.Nonblock = mode.Read, mode.Write, mode.Nonblock
	d.CloseOnExec, _ = sys.CloseOnExec(fd)
	link, _ := procfs.ReadFDLink(procfs.Self, fd)
	d.Kind, d.Target = kindOf(link)
	d.Deleted = file.Unlinked && file.Type == sys.TypeFile && d.Kind != KindMemfd
	switch file.Type {
	case sys.TypeDirectory:
		d.Kind = KindDirectory
	case sys.TypeBlock:
		d.Kind = KindDevice
	case sys.TypeCharacter:
		d.Kind = KindDevice
		if sys.IsTerminal(fd) {
			d.Kind = KindTerminal
		}
	case sys.TypeFIFO:
		d.Kind = KindFIFO
		if strings.HasPrefix(link, "pipe:[") || link == "" {
			d.Kind = KindPipe
		}
		d.Pipe = within(pipeOf, fd)
	case sys.TypeSocket:
		d.Kind = KindSocket
		d.Socket = within(socketOf, fd)
	}
	if d.Kind == KindPidfd {
		if info, err := procfs.ReadFDInfo(procfs.Self, fd); err == nil && info.Pidfd {
			d.Target = "process " + strconv.Itoa(info.PID)
		}
	}
	return d, nil
}

// kindOf tells what the text of a link in /proc/PID/fd does.
func kindOf(link string) (kind, target string) {
	t := procfs.ParseFDTarget(link)
	switch t.Kind {
	case procfs.FDPath:
		return KindFile, t.Name
	case procfs.FDPipe:
		return KindPipe, link
	case procfs.FDSocket:
		return KindSocket, link
	case procfs.FDMemfd:
		return KindMemfd, t.Name
	case procfs.FDAnon:
		return t.Name, ""
	case procfs.FDOther:
		if t.Name == KindPidfd {
			return KindPidfd, ""
		}
		return KindNamespace, link
	case procfs.FDUnknown:
	}
	return KindUnknown, link
}

// answerBound is how long one pipe or socket is asked. Tests set it.
var answerBound = 100 * time.Millisecond

// within returns what f finds out about a pipe or socket. If f does not return in time, within leaves it
// behind and returns nil: a process at the other end can hold the lock for ever, while its memory does not come.
func within[T any](f func(fd int) *T, fd int) *T {
	answer := make(chan *T, 1)
	go func() { answer <- f(fd) }()
	late := time.NewTimer(answerBound)
	defer late.Stop()
	select {
	case found := <-answer:
		return found
	case <-late.C:
		return nil
	}
}

func pipeOf(fd int) *Pipe {
	size, err := sys.PipeSize(fd)
	if err != nil {
		return nil
	}
	p := Pipe{Size: size, Unseen: -1}
	p.Unread, _ = sys.Unread(fd)
	return &p
}

func socketOf(fd int) *Socket {
	s, err := sys.SocketOf(fd)
	if err != nil {
		return nil
	}
	state := ""
	switch {
	case s.TCPState != 0:
		state = procfs.SocketState(s.TCPState).String()
	case s.Listening:
		state = "LISTEN"
	case s.Remote != "":
		state = "CONNECTED"
	}
	return &Socket{
		Network: s.Network, Local: s.Local, Remote: s.Remote, State: state, Unread: s.Unread, Unsent: s.Unsent,
	}
}
