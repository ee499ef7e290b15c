package diagnose

import (
	"os"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// Bounds on what is looked at, whatever the size of the tree.
const (
	maxProcesses = 512 // in a report
	maxThreads   = 64  // looked at in a process
	maxOutsiders = 32  // that the chain leads to
	firstKids    = 4   // of the children that a process waits for, followed before all others
)

// minSample is the least time between two looks at the processor time of what runs.
const minSample = 20 * time.Millisecond

// A collector does the looking, on one goroutine.
type collector struct {
	target  Target
	begun   time.Time
	soft    time.Time // nothing more is begun after it
	quit    func() bool
	publish func(*Snapshot)

	inTree    map[int]bool
	held      map[int]bool // processes that did not answer, see ask
	members   []int
	seen      map[int]int // index in processes
	processes []*Process
	cpu       map[int]cpuSample
	ends      ends
	locks     []procfs.Lock
	locksRead bool
	now       time.Duration // of the scheduler's clock; 0 if it cannot be had
	outsiders int
	urgent    []int // processes to look at before the other members
}

type cpuSample struct {
	at   time.Time
	used time.Duration
}

func newCollector(target Target, begun, soft time.Time) *collector {
	c := &collector{
		target: target, begun: begun, soft: soft,
		inTree: make(map[int]bool), held: make(map[int]bool), seen: make(map[int]int), cpu: make(map[int]cpuSample),
	}
	c.ends.c = c
	return c
}

// late reports whether it is time to come to an end.
func (c *collector) late() bool { return c.quit() || time.Now().After(c.soft) }

// run looks at the root first, then at whatever it waits for, then at the rest of the tree, and
// publishes after each step what can be said by then.
func (c *collector) run() {
	c.now, _ = procfs.ReadOwnSched()
	c.findMembers()
	c.look(c.target.PID)
	c.followUrgent()
	c.conclude() // the essence, in case what follows is never reached
	for _, pid := range c.target.Holders {
		c.look(pid)
		c.followUrgent()
	}
	for _, pid := range c.members {
		if c.late() || len(c.processes) >= maxProcesses {
			break
		}
		c.look(pid)
		c.followUrgent()
	}
	c.finishEnds()
	c.ends.close()
	if c.target.Commands || c.runs() {
		c.conclude() // what follows takes its time
	}
	if c.target.Commands {
		c.readCommands()
	}
	c.sampleCPU()
	c.conclude()
}

// readCommands comes late: it waits for the memory maps of others.
func (c *collector) readCommands() {
	for _, p := range c.processes {
		if c.quit() {
			return
		}
		if !p.Gone && !p.zombie() {
			pid := p.PID
			p.Command, _ = ask(c, pid, func() ([]string, error) { return procfs.ReadCmdline(pid) })
		}
	}
}

// fewMembers is up to how many the children of each are asked for, at 10 us each. To list the machine takes
// longer where thousands of commands are ended together.
const fewMembers = 16

// findMembers lists the tree: what the caller knows, the session, and the children of all of them. If the
// caller knows the whole tree, either the session or the children are enough: look notices in passing a
// process that is in neither.
func (c *collector) findMembers() {
	c.add(c.target.PID)
	for _, pid := range c.target.Members {
		c.add(pid)
	}
	session, whole := c.target.Session, c.target.Whole
	bySession := session != 0 && !(whole && len(c.members) <= fewMembers)
	if bySession {
		for _, pid := range c.membersOf(session) {
			if pid != session {
				c.add(pid)
			}
		}
	}
	if !(whole && bySession) {
		known := len(c.members)
		for i := 0; i < len(c.members) && !c.late(); i++ {
			if whole && i >= known {
				break // the others have no children, or were born this moment
			}
			children, _ := procfs.Children(c.members[i])
			for _, pid := range children {
				c.add(pid)
			}
		}
	}
	slices.Sort(c.members)
}

func (c *collector) add(pid int) {
	if pid > 0 && !c.inTree[pid] && pid != os.Getpid() {
		c.inTree[pid] = true
		c.members = append(c.members, pid)
	}
}

// look records one process, once, and notes what to look at next.
func (c *collector) look(pid int) {
	if _, ok := c.seen[pid]; ok || pid <= 0 {
		return
	}
	p := &Process{PID: pid, Role: c.role(pid), Cores: -1}
	c.seen[pid] = len(c.processes)
	c.processes = append(c.processes, p)
	st, err := procfs.ReadStat(pid)
	if err != nil {
		p.Gone = true
		return
	}
	p.PPID, p.PGID, p.SID, p.Start = st.PPID, st.PGRP, st.Session, st.StartTime
	if c.inTree[p.PPID] && !c.inTree[pid] { // a zombie, or it was born since
		c.add(pid)
		p.Role = c.role(pid)
	}
	p.Name, p.State, p.ThreadCount = st.Comm, st.State, st.NumThreads
	if used, err := sys.CPUTime(pid); err == nil {
		p.CPU = used
		c.cpu[pid] = cpuSample{time.Now(), used}
	} else {
		p.CPU = procfs.Ticks(st.UTime) + procfs.Ticks(st.STime)
	}
	switch {
	case p.zombie():
		c.want(p.PPID)
		return
	case p.State == 'T' && c.target.Child && pid == c.target.PID:
		p.StopSignal = sys.StopSignal(pid)
	case p.State == 't':
		if status, err := procfs.ReadStatus(pid); err == nil {
			p.Tracer = status.TracerPID
		}
		c.want(p.Tracer)
	}
	if pid != os.Getpid() { // our own threads are in the middle of this
		c.lookAtThreads(p, st)
	}
}

// nameOf returns the name of a process, empty if that cannot be had.
func (c *collector) nameOf(pid int) string {
	if i, ok := c.seen[pid]; ok && c.processes[i].Name != "" {
		return c.processes[i].Name
	}
	st, err := procfs.ReadStat(pid)
	if err != nil {
		return ""
	}
	return st.Comm
}

func (c *collector) role(pid int) Role {
	switch {
	case slices.Contains(c.target.Holders, pid):
		return Holder
	case pid == c.target.PID:
		return Root
	case c.inTree[pid]:
		return Member
	}
	return Outsider
}

func (c *collector) lookAtThreads(p *Process, st procfs.Stat) {
	tids := []int{p.PID}
	if st.NumThreads > 1 {
		if all, err := procfs.Threads(p.PID); err == nil {
			tids = all
		}
	}
	for i, tid := range tids {
		if i > 0 && (i >= maxThreads || c.late()) {
			break
		}
		t := Thread{TID: tid, Name: st.Comm, State: st.State, Idle: -1}
		if tid != p.PID || st.NumThreads > 1 {
			own, err := procfs.ReadThreadStat(p.PID, tid)
			if err != nil || own.Dead() {
				continue
			}
			t.Name, t.State = own.Comm, own.State
		}
		if !c.readCall(p, &t) || c.held[p.PID] {
			p.Unreadable = true
		}
		p.Threads = append(p.Threads, t)
	}
}

// want asks for a process to be looked at soon. Outsiders are limited: a pipe may have thousands.
func (c *collector) want(pid int) {
	if _, ok := c.seen[pid]; ok || pid <= 0 {
		return
	}
	if !c.inTree[pid] {
		if c.outsiders >= maxOutsiders {
			return
		}
		c.outsiders++
	}
	c.urgent = append(c.urgent, pid)
}

// followUrgent looks at what was asked for, the last first, so that a chain is followed to its end
// before its siblings.
func (c *collector) followUrgent() {
	for len(c.urgent) > 0 && !c.quit() && time.Now().Before(c.soft) {
		pid := c.urgent[len(c.urgent)-1]
		c.urgent = c.urgent[:len(c.urgent)-1]
		c.look(pid)
	}
}

// finishEnds lists the descriptors of all processes, if the tree waits for a pipe or may have left one of
// the run to another process.
func (c *collector) finishEnds() {
	if c.ends.lined || len(c.target.Pipes) > 0 {
		c.ends.finish()
		c.findMoreEnds()
		c.findHolders()
		c.followUrgent()
	}
}

// findHolders looks for those outside of the tree that have a pipe of the run.
func (c *collector) findHolders() {
	for _, inode := range c.target.Pipes {
		for _, end := range c.ends.listed(pipeLink(inode), writeEnd) {
			known := slices.Contains(c.target.Holders, end.PID)
			if end.PID == os.Getpid() || c.inTree[end.PID] && !known {
				continue
			}
			c.look(end.PID)
			if c.inTree[end.PID] && !known {
				continue // which was noticed just now
			}
			if !known {
				c.target.Holders = append(c.target.Holders, end.PID)
			}
			i, ok := c.seen[end.PID]
			if !ok {
				continue
			}
			p := c.processes[i]
			p.PipeFDs = append(p.PipeFDs, end.FD)
			if p.Role == Outsider {
				p.Role = Holder
			}
		}
		c.followUrgent()
	}
	for _, p := range c.processes {
		slices.Sort(p.PipeFDs)
		p.PipeFDs = slices.Compact(p.PipeFDs)
	}
}

// sampleCPU looks a second time at the processor time. Only if something runs is it worth waiting
// for that.
func (c *collector) sampleCPU() {
	if c.runs() {
		wait := min(minSample-time.Since(c.begun), time.Until(c.soft))
		if wait > 0 && !c.quit() {
			time.Sleep(wait)
		}
	}
	for _, p := range c.processes {
		first, ok := c.cpu[p.PID]
		if !ok {
			continue
		}
		used, err := sys.CPUTime(p.PID)
		passed := time.Since(first.at)
		if err == nil && passed > 0 {
			p.CPU = used
			p.Cores = float64(used-first.used) / float64(passed)
		}
	}
}

// runs reports whether one of the processes was seen running.
func (c *collector) runs() bool {
	return slices.ContainsFunc(c.processes, func(p *Process) bool { return p.State == 'R' })
}

// conclude publishes what is known by now.
func (c *collector) conclude() {
	s := &Snapshot{
		Taken: c.begun, Took: time.Since(c.begun),
		Unseen: c.ends.unseen, Partial: c.ends.partial(),
	}
	for _, p := range c.processes {
		if !p.Gone || p.Role == Root {
			s.Processes = append(s.Processes, *p)
		}
		if p.Unreadable {
			s.Unreadable++
		}
	}
	slices.SortStableFunc(s.Processes, func(a, b Process) int {
		if a.Role != b.Role {
			return int(a.Role) - int(b.Role)
		}
		return a.PID - b.PID
	})
	for _, pid := range c.members {
		if _, ok := c.seen[pid]; !ok {
			s.Omitted++
		}
	}
	follow(s)
	if c.measureIdle(s) {
		follow(s) // with that in its words
	}
	// What is published is not changed any more.
	for i := range s.Processes {
		s.Processes[i].Threads = slices.Clone(s.Processes[i].Threads)
		s.Processes[i].PipeFDs = slices.Clone(s.Processes[i].PipeFDs)
	}
	c.publish(s)
}

// measureIdle finds out since when the threads of the chain have not run. It reads long files, so the
// others go without.
func (c *collector) measureIdle(s *Snapshot) bool {
	for _, link := range s.Chain {
		p := c.processes[c.seen[link.PID]]
		for i := range p.Threads {
			if t := &p.Threads[i]; t.TID == link.TID && t.State != 'R' && !c.late() {
				c.idle(p, t)
			}
		}
	}
	return len(s.Chain) > 0
}

// fdInfo reads what /proc/PID/task/TID/fdinfo says of a descriptor.
func (c *collector) fdInfo(pid, tid, fd int) (procfs.FDInfo, bool) {
	return ask(c, pid, func() (procfs.FDInfo, error) { return procfs.ReadThreadFDInfo(pid, tid, fd) })
}
