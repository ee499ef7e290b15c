package proctree

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A Holder is a process that has a pipe open for writing.
type Holder struct {
	Process
	Inode uint64 // of the pipe
	FDs   []int
	// Starting says that it is a child of ours on its way from fork to exec, where it will lose what
	// is close-on-exec, as our pipes are.
	Starting bool
}

// Holders returns the processes that hold pipes with the given inodes, or terminals with the given keys, for writing,
// this process included: one Holder for each process and pipe. It looks at this process first, then at those whose
// PIDs are close to near, and reports whether it came to all of them by the given time. It leaves out processes whose
// descriptors we may not read.
func Holders(until time.Time, near int, inodes ...uint64) (holders []Holder, complete bool) {
	inodes = slices.DeleteFunc(inodes, func(inode uint64) bool { return inode == 0 })
	if len(inodes) == 0 {
		return nil, true
	}
	if procfs.Foreign() {
		return nil, false
	}
	pids, err := procfs.PIDs()
	if err != nil {
		return nil, false
	}
	likelyFirst(pids, os.Getpid(), near)
	s := holderSearch{inodes: inodes, terminals: slices.ContainsFunc(inodes, sys.IsFileKey), until: until}
	for _, pid := range pids {
		if s.late() {
			break
		}
		s.look(pid)
	}
	return s.holders, !s.over
}

// likelyFirst sorts PIDs by how likely they are to hold a pipe: a host that let a child inherit one
// often has it too, and what the command started has PIDs near its own.
func likelyFirst(pids []int, self, near int) {
	distance := func(pid int) int {
		if pid == self {
			return -1
		}
		return max(pid-near, near-pid)
	}
	slices.SortFunc(pids, func(a, b int) int { return cmp.Compare(distance(a), distance(b)) })
}

// A holderSearch is one walk over the descriptors of all processes.
type holderSearch struct {
	inodes []uint64
	// terminals says that there are some among the inodes: see [sys.FileKey].
	terminals bool
	until     time.Time
	over      bool // the time has passed
	looked    int  // descriptors, since the time was asked
	holders   []Holder
}

func (s *holderSearch) late() bool {
	s.over = s.over || !time.Now().Before(s.until)
	return s.over
}

// linksPerClock is how many descriptors of one process are looked at between two looks at the time.
const linksPerClock = 64

func (s *holderSearch) look(pid int) {
	// A first thread that has exited shows no descriptors while the others still have them.
	tid, err := procfs.LiveThread(pid)
	if err != nil {
		return
	}
	first := len(s.holders)
	_ = procfs.WalkThreadFDs(pid, tid, func(fd int, link []byte) bool {
		if ino, ok := s.inode(pid, tid, fd, link); ok && slices.Contains(s.inodes, ino) {
			s.found(pid, tid, fd, ino, first)
		}
		s.looked++
		return s.looked%linksPerClock != 0 || !s.late()
	})
	if len(s.holders) == first {
		return
	}
	st, err := procfs.ReadStat(pid)
	if errors.Is(err, fs.ErrNotExist) {
		s.holders = s.holders[:first]
		return
	}
	for i := first; i < len(s.holders); i++ {
		h := &s.holders[i]
		h.Process = Process{PID: pid, Start: st.StartTime, Name: st.Comm}
		h.Starting = h.Starting && st.PPID == os.Getpid()
	}
}

// inode returns what names the file of a descriptor, if it is one that can be looked for: a pipe, or where terminals
// are looked for one of those. Their file system is in memory, and answers.
func (s *holderSearch) inode(pid, tid, fd int, link []byte) (uint64, bool) {
	if ino, ok := procfs.PipeInode(link); ok {
		return ino, true
	}
	if s.terminals && bytes.HasPrefix(link, []byte("/dev/pts/")) {
		key, err := sys.FileKeyAt(fmt.Sprintf("/proc/%d/task/%d/fd/%d", pid, tid, fd))
		return key, err == nil
	}
	return 0, false
}

// found adds a descriptor that is one of the pipes, if it can write. One that cannot be asked counts;
// one that is gone by now does not. Holders from first on are those of this process.
func (s *holderSearch) found(pid, tid, fd int, inode uint64, first int) {
	info, err := procfs.ReadThreadFDInfo(pid, tid, fd)
	if err == nil && !info.CanWrite() || errors.Is(err, fs.ErrNotExist) {
		return
	}
	lost := err == nil && info.CloseOnExec()
	for i := first; i < len(s.holders); i++ {
		if h := &s.holders[i]; h.Inode == inode {
			h.FDs = append(h.FDs, fd)
			h.Starting = h.Starting && lost
			return
		}
	}
	s.holders = append(s.holders, Holder{Inode: inode, FDs: []int{fd}, Starting: lost})
}

// Alive reports whether p is still there, and no zombie. What cannot be read counts as alive.
func (p Process) Alive() bool {
	st, err := procfs.ReadStat(p.PID)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return st.Alive() && st.StartTime == p.Start
}
