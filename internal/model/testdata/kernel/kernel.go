// Package kernel is a kernel of processes alone, made of one seed: they fork, exit, lose their parents, stop, change
// sessions and marks, and take each other's numbers, between any two calls of whoever looks at them.
package kernel

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// K is the kernel that the calls go to.
var K *Kernel

// Planted is the fault that is planted in the logic, by name.
var fault string

// Plant plants a fault.
func Plant(name string) { fault = name }

// Planted reports whether that is the fault that is planted.
func Planted(name string) bool { return fault == name }

// Epoch is when the machine has started.
var Epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// Options are what machines differ in.
type Options struct {
	PIDMax, CPUs   int
	Pidfds, Slices bool
	GroupSignals   bool // PIDFD_SIGNAL_PROCESS_GROUP
	Subreaper      bool // this process is one
	Faults         bool // waitid fails now and then
	Strangers      int
	Gap            time.Duration // between what two processes do, on the average
	Preempt        time.Duration // the longest that this process is not run
	SlowReap       time.Duration // the longest that PID 1 takes
}

const (
	first    = 1   // PID 1
	host     = 301 // this process
	reserved = 300
	clone    = 11 * time.Microsecond // that it takes one processor
	noLimit  = ^uint64(0)
	// BaseSlice is the slice of whoever has chosen none.
	BaseSlice = 3_000_000
)

// A Proc is a process.
type Proc struct {
	PID            int
	Start          uint64
	Run            int // whose leader it descends from; 0 for strangers
	Soft, Hard     uint64
	Slice          uint64
	Environ        string
	Group, Session int
	Leader         bool

	parent  *Proc
	state   byte // R, T or Z; 0 when it is reaped
	forking *Proc
	entered time.Time // into /proc; later than now while the fork is under way
	signals []syscall.Signal
	due     time.Time // of the signals
	reapAt  time.Time // by PID 1
	altered bool      // one of its marks
	deaf    bool      // to SIGTERM
	breeds  bool      // on SIGTERM
	hops    bool      // exits after a fork
	asleep  bool      // does nothing by itself
	was     uint64    // what a stranger's limit is
	usurper int       // the call before which it took its number
}

// A Run is what is known of one run that is not the kernel's to know.
type Run struct {
	Forks int // that its tree still makes
	Limit uint64
}

// A Kernel is the machine.
type Kernel struct {
	Options
	*rand.Rand
	Runs   map[int]*Run
	Wrong  []string // what must not happen
	Calls  int
	Thread uint64 // the slice of the calling thread

	now    time.Time
	last   int // PID given out
	forks  uint64
	spent  time.Duration // in the kernel
	byPID  []*Proc
	refs   []int // to a number: by a process, a group, a session
	all    []*Proc
	files  map[int]*Proc
	nextFD int
	asked  int // the PID of the last call
	failed int // the call that did last
}

// New returns a machine with its strangers.
func New(o Options, r *rand.Rand) *Kernel {
	k := &Kernel{
		Options: o, Rand: r, Runs: map[int]*Run{}, Thread: BaseSlice, now: Epoch.Add(time.Hour),
		byPID: make([]*Proc, o.PIDMax), refs: make([]int, o.PIDMax), files: map[int]*Proc{}, nextFD: 10,
	}
	init := k.enter(first, nil)
	init.asleep = true
	k.last = reserved
	self := k.Fork(init)
	self.asleep = true
	for range o.Strangers {
		k.Fork(init)
	}
	k.last = reserved + r.IntN(o.PIDMax-reserved)
	return k
}

// Host returns this process.
func (k *Kernel) Host() *Proc { return k.byPID[host] }

func (k *Kernel) enter(pid int, parent *Proc) *Proc {
	p := &Proc{
		PID: pid, parent: parent, state: 'R', entered: k.now, Group: pid, Session: pid,
		Soft: noLimit, Hard: noLimit, was: noLimit, usurper: -gap, Slice: BaseSlice, Start: uint64(k.now.Sub(Epoch) / (10 * time.Millisecond)),
	}
	if parent != nil {
		p.Run, p.Soft, p.Hard, p.was, p.Slice, p.Environ = parent.Run, parent.Soft, parent.Hard, parent.was, parent.Slice, parent.Environ
		p.Group, p.Session, p.altered = parent.Group, parent.Session, parent.altered
		if p.Run == 0 {
			p.Soft = p.was // or see actStranger
		}
		if parent.PID == host {
			p.Slice = k.Thread
		}
	}
	k.byPID[pid] = p
	k.all = append(k.all, p)
	k.refs[pid]++
	k.refs[p.Group]++
	k.refs[p.Session]++
	k.forks++
	return p
}

// number gives out a PID, 0 if there is none. It takes its time even if the clone fails then.
func (k *Kernel) number() int {
	k.spent += clone
	for range k.PIDMax {
		if k.last++; k.last >= k.PIDMax {
			k.last = reserved
		}
		if k.refs[k.last] == 0 {
			return k.last
		}
	}
	return 0
}

// Fork makes a child at once.
func (k *Kernel) Fork(parent *Proc) *Proc {
	p := k.enter(k.number(), parent)
	k.temper(p)
	return p
}

func (k *Kernel) temper(p *Proc) {
	p.deaf = k.IntN(4) == 0
	p.breeds = k.IntN(6) == 0
	p.hops = k.IntN(3) == 0
	p.asleep = k.IntN(3) == 0
}

// Setsid makes p the leader of a session.
func (k *Kernel) Setsid(p *Proc) {
	if k.leads(p.PID) {
		return
	}
	k.move(p, p.PID, p.PID)
}

func (k *Kernel) leads(group int) bool {
	for _, p := range k.all {
		if p.Group == group {
			return true
		}
	}
	return false
}

func (k *Kernel) move(p *Proc, group, session int) {
	k.refs[group]++
	k.refs[session]++
	k.unref(p.Group)
	k.unref(p.Session)
	p.Group, p.Session = group, session
}

func (k *Kernel) unref(n int) { k.refs[n]-- }

// beginFork gives a child its number; it enters /proc later, and its parent does nothing before.
func (k *Kernel) beginFork(p *Proc) {
	if p.Run != 0 {
		run := k.Runs[p.Run]
		if run.Forks <= 0 {
			return
		}
		run.Forks--
	}
	pid := k.number()
	if pid == 0 {
		return
	}
	k.refs[pid]++
	p.forking = &Proc{PID: pid, entered: k.now.Add(time.Duration(k.IntN(int(60 * time.Microsecond))))}
}

func (k *Kernel) endFork(p *Proc) {
	pid := p.forking.PID
	p.forking = nil
	k.refs[pid]--
	if len(p.signals) > 0 { // a clone that a signal has interrupted fails, late
		return
	}
	k.temper(k.enter(pid, p))
	if p.hops {
		k.exit(p)
	}
}

func (k *Kernel) exit(p *Proc) {
	if p.state == 'Z' || p.state == 0 {
		return
	}
	if p.forking != nil {
		k.refs[p.forking.PID]--
		p.forking = nil
	}
	p.state, p.signals = 'Z', nil
	heir := k.byPID[first]
	if k.Subreaper && p.Run != 0 {
		heir = k.Host()
	}
	for _, c := range k.all {
		if c.parent == p {
			c.parent = heir
			if c.state == 'Z' {
				k.inherit(c)
			}
		}
		if c.Group == p.Group && c.state == 'T' && k.IntN(3) == 0 {
			c.state = 'R' // the kernel wakes the stopped of an orphaned group
		}
	}
	k.inherit(p)
}

func (k *Kernel) inherit(p *Proc) {
	if p.parent != nil && p.parent.PID == first {
		p.reapAt = k.now.Add(time.Duration(k.Int64N(int64(k.SlowReap) + 1)))
	}
}

// Reap frees the number of a zombie.
func (k *Kernel) Reap(p *Proc) {
	p.state = 0
	k.byPID[p.PID] = nil
	k.unref(p.PID)
	k.unref(p.Group)
	k.unref(p.Session)
	for i, q := range k.all {
		if q == p {
			k.all = append(k.all[:i], k.all[i+1:]...)
			break
		}
	}
}

// Now is the time.
func (k *Kernel) Now() time.Time {
	k.now = k.now.Add(50)
	return k.now
}

// Advance lets time pass, and the processes do what they do.
func (k *Kernel) Advance(d time.Duration) {
	for end := k.now.Add(d); ; {
		gap := max(clone/time.Duration(k.CPUs), time.Duration(k.Int64N(2*int64(k.Gap))))
		next := k.now.Add(gap)
		if !next.Before(end) {
			k.now = end
			k.settle()
			return
		}
		k.now = next
		k.settle()
		k.act(k.all[k.IntN(len(k.all))])
	}
}

// settle does what is due.
func (k *Kernel) settle() {
	for i := 0; i < len(k.all); i++ {
		p := k.all[i]
		switch {
		case p.state == 'Z' && !p.reapAt.IsZero() && !k.now.Before(p.reapAt):
			k.Reap(p)
			i--
		case p.forking != nil && !k.now.Before(p.forking.entered):
			k.endFork(p)
		case len(p.signals) > 0 && !k.now.Before(p.due):
			k.deliver(p)
		}
	}
}

// call is what each system call begins with.
func (k *Kernel) call() {
	k.Calls++
	if k.Calls > 3_000_000 {
		panic("this schedule does not end")
	}
	d := time.Duration(1+k.IntN(4)) * time.Microsecond
	switch k.IntN(400) {
	case 0:
		d += time.Duration(k.Int64N(int64(k.Preempt) + 1))
	case 1:
		k.usurp()
	}
	k.Advance(d)
}

// Alive returns who lives of a run.
func (k *Kernel) Alive(run int) (alive []*Proc) {
	for _, p := range k.all {
		if p.Run == run && p.state != 'Z' {
			alive = append(alive, p)
		}
	}
	return alive
}

// Spoiled returns strangers whose limit this process has changed.
func (k *Kernel) Spoiled() (list []*Proc) {
	for _, p := range k.all {
		if p.Run == 0 && p.Soft != p.was {
			list = append(list, p)
		}
	}
	return list
}

// State is R, T or Z, 0 when the process is reaped.
func (p *Proc) State() byte { return p.state }

// Text says what it is.
func (p *Proc) Text() string {
	return fmt.Sprintf("%d %c run %d session %d limit %x slice %d env %q altered %v", p.PID, p.state, p.Run, p.Session, p.Soft,
		p.Slice, p.Environ, p.altered)
}

// Exit has a process exit.
func (k *Kernel) Exit(p *Proc) { k.exit(p) }
