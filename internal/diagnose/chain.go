package diagnose

import (
	"os"
	"slices"
	"strings"
)

// A node is a thread in the graph of waits.
type node struct {
	process, thread int // indexes; thread is -1 for a process as a whole: a zombie, a stopped one
}

// An edge leads to what a thread waits for: any thread of a process, or one of them.
type edge struct {
	pid, tid int // tid 0 is any
}

// A graph is all that is known of which thread waits for which.
type graph struct {
	s     *Snapshot
	byPID map[int]int
	stuck map[node]bool // nothing it waits for can ever happen
}

// follow makes the chain and the verdict.
func follow(s *Snapshot) {
	s.Chain, s.Deadlock = nil, false
	g := &graph{s: s, byPID: make(map[int]int)}
	for i := range s.Processes {
		g.byPID[s.Processes[i].PID] = i
	}
	g.findStuck()
	g.walk()
}

// edges returns what a node waits for, and whether nothing else could make it go on: then it is stuck
// once all of them are.
func (g *graph) edges(n node) (edges []edge, all bool) {
	p := &g.s.Processes[n.process]
	if n.thread < 0 {
		switch {
		case p.zombie() && p.PPID > 0:
			edges = append(edges, edge{pid: p.PPID})
		case p.Tracer > 0:
			edges = append(edges, edge{pid: p.Tracer})
		}
		return edges, false
	}
	t := &p.Threads[n.thread]
	call := &t.Call
	all = call.Left < 0 && t.State != 'D' && !call.Running
	switch call.Wait {
	case WaitChild, WaitExec, WaitSignal:
		all = all && call.Wait != WaitSignal
		for _, pid := range call.Children {
			if i, ok := g.byPID[pid]; ok && (g.s.Processes[i].zombie() || g.s.Processes[i].Gone) {
				return nil, false // about to go on
			}
			edges = append(edges, edge{pid: pid})
		}
	case WaitLock, WaitTime:
		for _, pid := range call.Holders {
			edges = append(edges, edge{pid: pid})
		}
		all = all && call.Wait == WaitLock
	case WaitFutex:
		if call.Owner != 0 && slices.ContainsFunc(p.Threads, func(o Thread) bool { return o.TID == call.Owner }) {
			edges = append(edges, edge{pid: p.PID, tid: call.Owner})
		}
	case WaitRead, WaitWrite, WaitReady, WaitOpen, WaitConnect, WaitAccept:
		for _, fd := range call.FDs {
			more, known := g.fdEdges(p, &fd, call.Wait)
			edges = append(edges, more...)
			all = all && known
		}
	case WaitUnknown, WaitFile, WaitIPC:
		all = false
	}
	return edges, all && len(edges) > 0
}

// fdEdges returns what a wait on one descriptor waits for.
func (g *graph) fdEdges(p *Process, fd *Descriptor, wait Wait) (edges []edge, all bool) {
	switch {
	case (fd.Kind == "pipe" || fd.Kind == "FIFO") && fd.Reading && fd.Filled > 0 && wait != WaitOpen:
		return nil, false // there is something to read
	case fd.PID > 0:
		return []edge{{pid: fd.PID}}, true
	}
	for _, end := range fd.Ends {
		// A thread waits for its own process only if no other process has the end.
		if end.PID != p.PID || !slices.ContainsFunc(fd.Ends, func(e End) bool { return e.PID != p.PID }) {
			edges = append(edges, edge{pid: end.PID})
		}
	}
	if fd.Kind == "pipe" || fd.Kind == "FIFO" {
		edges = edges[:0]
		for _, end := range fd.Ends {
			edges = append(edges, edge{pid: end.PID})
		}
		return edges, fd.EndsKnown && wait != WaitOpen
	}
	return edges, false // a socket may have another end than the one we know of
}

// nodes returns the nodes of a process.
func (g *graph) nodes(process int) []node {
	p := &g.s.Processes[process]
	if p.State == 'T' || p.State == 't' || p.zombie() || p.Gone || len(p.Threads) == 0 {
		return []node{{process, -1}}
	}
	nodes := make([]node, len(p.Threads))
	for i := range nodes {
		nodes[i] = node{process, i}
	}
	return nodes
}

// findStuck first takes every thread that waits only for others in the graph for stuck. It then frees
// each that waits for one that can go on, until it finds no more: what remains is a deadlock.
func (g *graph) findStuck() {
	g.stuck = make(map[node]bool)
	edges := make(map[node][]edge)
	for i := range g.s.Processes {
		for _, n := range g.nodes(i) {
			if found, all := g.edges(n); all {
				g.stuck[n], edges[n] = true, found
			}
		}
	}
	for changed := true; changed; {
		changed = false
		for n := range g.stuck {
			if slices.ContainsFunc(edges[n], g.canMove) {
				delete(g.stuck, n)
				changed = true
			}
		}
	}
}

// canMove reports whether the target of an edge may go on, as far as is known.
func (g *graph) canMove(e edge) bool {
	i, ok := g.byPID[e.pid]
	if !ok {
		return true
	}
	p := &g.s.Processes[i]
	if e.tid == 0 && len(p.Threads) < p.ThreadCount && p.PID != e.tid {
		return true // threads that were not looked at
	}
	for _, n := range g.nodes(i) {
		if e.tid != 0 && n.thread >= 0 && p.Threads[n.thread].TID != e.tid {
			continue
		}
		if !g.stuck[n] {
			return true
		}
	}
	return false
}

// Ranks of a thread: the one that says most about why its process does not go on stands for it.
const (
	rankUnknown = iota
	rankFutex   // which of its own threads it waits for is not known
	rankSignal
	rankReady
	rankTime
	rankBusy
	rankBlocked
	rankStuck
)

func (g *graph) rank(n node) int {
	if g.stuck[n] {
		return rankStuck
	}
	if n.thread < 0 {
		return rankBlocked
	}
	t := &g.s.Processes[n.process].Threads[n.thread]
	switch {
	case t.State == 'R' || t.Call.Running:
		return rankBusy
	case t.State == 'D':
		return rankBlocked
	}
	switch t.Call.Wait {
	case WaitFutex:
		if t.Call.Owner != 0 {
			return rankReady
		}
		return rankFutex
	case WaitSignal:
		return rankSignal
	case WaitReady:
		if len(t.Call.FDs) == 1 {
			return rankBlocked
		}
		return rankReady
	case WaitTime:
		if len(t.Call.Holders) > 0 {
			return rankBlocked
		}
		return rankTime
	case WaitChild, WaitExec, WaitRead, WaitWrite, WaitAccept, WaitConnect, WaitLock, WaitOpen, WaitFile, WaitIPC:
		return rankBlocked
	case WaitUnknown:
	}
	if t.Call.Name != "" {
		return rankSignal // a call that we do not know well
	}
	return rankUnknown
}

// best returns the node that stands for a process, of two equal ones the first.
func (g *graph) best(process int) node {
	nodes := g.nodes(process)
	best := nodes[0]
	for _, n := range nodes[1:] {
		if g.rank(n) > g.rank(best) {
			best = n
		}
	}
	return best
}

// walk follows the chain from the root to its end, or until it comes back to where it was.
func (g *graph) walk() {
	if len(g.s.Processes) == 0 {
		return
	}
	at := g.best(0)
	seen := make(map[node]bool)
	var chain []node
	closed := false
	for {
		if seen[at] {
			closed = true
			break
		}
		seen[at] = true
		chain = append(chain, at)
		next, ok := g.next(at, seen)
		if !ok {
			break
		}
		at = next
	}
	for _, n := range chain {
		g.s.Deadlock = g.s.Deadlock || g.stuck[n]
		p := &g.s.Processes[n.process]
		link := Link{PID: p.PID, TID: p.PID, Name: p.Name, Text: g.phrase(n)}
		if n.thread >= 0 {
			link.TID = p.Threads[n.thread].TID
		}
		g.s.Chain = append(g.s.Chain, link)
	}
	g.s.Found = closed || g.isCause(chain[len(chain)-1])
	g.s.Verdict = g.sentence(closed)
}

// next returns the node that the chain goes on with: one that is stuck, if this one is, else the one
// that says most.
func (g *graph) next(from node, seen map[node]bool) (node, bool) {
	edges, _ := g.edges(from)
	var best node
	bestRank := -1
	for _, e := range edges {
		i, ok := g.byPID[e.pid]
		if !ok || e.pid == os.Getpid() {
			continue
		}
		for _, n := range g.nodes(i) {
			if e.tid != 0 && (n.thread < 0 || g.s.Processes[i].Threads[n.thread].TID != e.tid) {
				continue
			}
			rank := 4 * g.rank(n)
			if g.stuck[from] != g.stuck[n] && g.stuck[from] {
				continue
			}
			if g.s.Processes[i].Role <= Member {
				rank += 2
			}
			if !seen[n] {
				rank += 4 * rankStuck // rather on than around
			}
			if rank > bestRank {
				best, bestRank = n, rank
			}
		}
	}
	return best, bestRank >= 0
}

// isCause reports whether the end of a chain explains why nothing goes on.
func (g *graph) isCause(n node) bool {
	p := &g.s.Processes[n.process]
	if p.Gone || p.Unreadable && (n.thread < 0 || p.Threads[n.thread].Call.Name == "") {
		return n.thread < 0 && !p.Gone || n.thread >= 0 && p.Threads[n.thread].State == 'D'
	}
	return g.rank(n) > rankFutex
}

// sentence joins the links. It holds no arguments, no environment and no names of files.
func (g *graph) sentence(closed bool) string {
	var b strings.Builder
	switch {
	case g.s.Deadlock:
		b.WriteString("deadlock: ")
	case closed:
		b.WriteString("a circle: ")
	}
	for i, link := range g.s.Chain {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(g.named(link.PID))
		if link.TID != link.PID {
			b.WriteString(" thread " + number(link.TID))
		}
		b.WriteString(" " + link.Text)
	}
	return b.String()
}
