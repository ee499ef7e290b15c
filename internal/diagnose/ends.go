package diagnose

import (
	"cmp"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// searchPart is how much of the time for looking may go into the search for the other end of one
// descriptor, before the rest of the tree was looked at.
const searchPart = 0.5

// ends knows which process has which file open. It lists the descriptors of one process after the other,
// likely ones first, and goes on only as long as an end is wanted.
type ends struct {
	c      *collector
	lined  bool  // the tree is in queue, or in spared
	queue  []int // PIDs to list, in this order
	spared []int // the tree, as long as no question needs it
	queued map[int]bool
	next   int  // in queue
	near   int  // the part of queue that is always listed, given a turn
	all    bool // all processes are in queue
	byLink map[string][]End
	unseen int
	parent int  // of the root
	hidden bool // one of the tree, or its parent, is among the unseen

	endTurn func() // gives back the turn to search; nil without one
}

// searches holds one for each search under way. If many commands end at once each of them wants to know the
// holders of its pipes, and all searches together would cost the square of their number, on every processor. A
// search within a tree needs no turn.
var searches = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// longestTurn is after how long a search no longer counts, should the kernel keep it.
const longestTurn = time.Second

// takeTurn waits until the search beyond the tree may begin, until the given time at the latest.
func (e *ends) takeTurn(until time.Time) bool {
	if e.endTurn != nil {
		return true
	}
	late := time.NewTimer(time.Until(until))
	defer late.Stop()
	select {
	case searches <- struct{}{}:
	case <-late.C:
		return false
	}
	giveBack := sync.OnceFunc(func() { <-searches })
	lease := time.AfterFunc(longestTurn, giveBack)
	e.endTurn = func() { lease.Stop(); giveBack() }
	return true
}

// close lets the next one search.
func (e *ends) close() {
	if e.endTurn != nil {
		e.endTurn()
	}
}

func pipeLink(inode uint64) string { return "pipe:[" + strconv.FormatUint(inode, 10) + "]" }

func socketLink(inode uint64) string { return "socket:[" + strconv.FormatUint(inode, 10) + "]" }

// begin lines up the tree, which is near, even if all other processes were listed before.
func (e *ends) begin() {
	if !e.lined {
		e.lineTree()
	}
	if len(e.spared) > 0 {
		e.queue, e.spared = append(e.queue, e.spared...), nil
		e.near = len(e.queue)
	}
}

func (e *ends) lineTree() {
	e.lined = true
	e.byLink, e.queued = make(map[string][]End), make(map[int]bool)
	root := e.c.target.PID
	if st, err := procfs.ReadStatNoComm(root); err == nil {
		e.parent = st.PPID
	}
	e.line(root)
	e.line(e.c.target.Holders...)
	e.line(e.c.members...)
}

func (e *ends) line(pids ...int) {
	for _, pid := range pids {
		if pid > 0 && !e.queued[pid] {
			e.queued[pid] = true
			e.queue = append(e.queue, pid)
		}
	}
}

// lineEverybody goes on with the parent and this process, which may have thousands of descriptors, then with the
// session of the root, then with close PIDs: processes that wait for each other mostly are relatives.
func (e *ends) lineEverybody() {
	root := e.c.target.PID
	e.line(e.parent, os.Getpid())
	siblings, _ := procfs.Children(e.parent)
	e.line(siblings[:min(len(siblings), maxSiblings)]...)
	e.near = len(e.queue)
	everyone, _ := procfs.PIDs()
	if sid, err := sys.Session(root); err == nil {
		for _, pid := range everyone {
			if other, err := sys.Session(pid); err == nil && other == sid {
				e.line(pid)
			}
		}
	}
	slices.SortFunc(everyone, func(a, b int) int { return cmp.Compare(distance(a, root), distance(b, root)) })
	e.line(everyone...)
	e.all = true
}

// maxSiblings bounds how many other children of the root's parent are always listed.
const maxSiblings = 32

func distance(a, b int) int { return max(a-b, b-a) }

// search lists processes until found is satisfied, the end of the queue, or the given time. What is
// near is listed in any case, if there is a turn.
func (e *ends) search(until time.Time, found func() bool) {
	e.begin()
	e.listUntil(until, found)
}

func (e *ends) listUntil(until time.Time, found func() bool) {
	for {
		if e.next == len(e.queue) && !e.all {
			if found() || !e.takeTurn(until) || e.c.quit() {
				return
			}
			e.lineEverybody()
		}
		if e.next == len(e.queue) || e.next >= e.near && e.all && found() ||
			e.next > 0 && (e.c.quit() || time.Now().After(until)) {
			return
		}
		e.list(e.queue[e.next])
		e.next++
	}
}

// finish lists the rest, as long as there is time. If nothing was asked so far it spares the tree, whose listing would
// be a third of the time that a report of a hundred processes takes.
func (e *ends) finish() {
	if !e.lined {
		e.lineTree()
		tree := e.queue
		e.queue = nil
		for _, pid := range tree {
			if slices.Contains(e.c.target.Holders, pid) {
				e.queue = append(e.queue, pid)
			} else {
				e.spared = append(e.spared, pid)
			}
		}
	}
	e.listUntil(e.c.soft, func() bool { return false })
}

func (e *ends) list(pid int) {
	visit := func(fd int, link []byte) bool {
		if len(link) > 0 {
			e.byLink[string(link)] = append(e.byLink[string(link)], End{PID: pid, FD: fd})
		}
		return true
	}
	if procfs.WalkFDs(pid, visit) == nil {
		return
	}
	tid, err := procfs.LiveThread(pid)
	if err != nil {
		return // it is gone, or a zombie
	}
	// A leader that exited before its threads shows nothing.
	if tid == pid || procfs.WalkThreadFDs(pid, tid, visit) != nil {
		e.unseen++
		e.hidden = e.hidden || e.c.inTree[pid] || pid == e.parent
	}
}

// The mode of a link in /proc/PID/fd says how the descriptor was opened, see proc_pid_fd(5).
const (
	readEnd  os.FileMode = 0o400
	writeEnd os.FileMode = 0o200
)

// of returns the descriptors that are the file with the given link and are open in the given mode. It
// looks for one of another process than the asker.
func (e *ends) of(link string, mode os.FileMode, asker int) []End {
	return open(e.any(link, asker), mode)
}

// listed is like of, but lists no more processes.
func (e *ends) listed(link string, mode os.FileMode) []End { return open(e.named(link), mode) }

func open(ends []End, mode os.FileMode) []End {
	var found []End
	for _, end := range ends {
		st, err := os.Lstat(fdPath(end.PID, end.FD))
		if err == nil && st.Mode().Perm()&mode != 0 {
			found = append(found, end)
		}
	}
	return found
}

// any returns all descriptors that are the file.
func (e *ends) any(link string, asker int) []End {
	until := e.c.begun.Add(time.Duration(float64(e.c.soft.Sub(e.c.begun)) * searchPart))
	if len(e.spared) > 0 {
		until = e.c.soft // all others may have been listed, and these are few
	}
	e.search(until, func() bool {
		return slices.ContainsFunc(e.byLink[link], func(end End) bool { return end.PID != asker })
	})
	return e.named(link)
}

// named returns the ends listed so far, with the names of their processes.
func (e *ends) named(link string) []End {
	found := e.byLink[link]
	for i := range found {
		if found[i].Name == "" {
			found[i].Name = e.c.nameOf(found[i].PID)
		}
	}
	return slices.Clone(found) // the names of others may be filled in later
}

// partial reports whether there was no time to list all processes.
func (e *ends) partial() bool { return e.lined && !e.all || e.next < len(e.queue) }

// known reports whether the ends found are all there are: all processes were listed, and none that
// inherits descriptors of the tree, a member or the parent, is unseen. A stranger may still have been
// handed one, and counts as unseen.
func (e *ends) known() bool { return !e.partial() && !e.hidden }

func fdPath(pid, fd int) string {
	return "/proc/" + strconv.Itoa(pid) + "/fd/" + strconv.Itoa(fd)
}
