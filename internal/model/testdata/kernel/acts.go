package kernel

import (
	"fmt"
	"syscall"
	"time"
)

// usurp has the process that was asked last exit, and a stranger take its number, while this process is held up
// for as long as it takes to use up all numbers.
func (k *Kernel) usurp() {
	if k.asked <= 0 || k.asked >= len(k.byPID) {
		return
	}
	p := k.byPID[k.asked]
	if p == nil || p.Run != 1 || p.Leader || p.parent == k.Host() || p.forking != nil || k.PIDMax > 10_000 {
		return
	}
	k.exit(p)
	if p.parent == k.Host() {
		return
	}
	k.Reap(p)
	lap := time.Duration(k.PIDMax-reserved) * clone
	k.spent += lap
	if lap /= time.Duration(k.CPUs); !k.Pidfds {
		lap = max(lap, 20*time.Millisecond) // start times are exact to 10
	}
	k.Advance(lap)
	if k.refs[p.PID] == 0 {
		k.last = p.PID - 1
		k.Fork(k.byPID[first]).usurper = k.Calls
	}
}

// act has a process do something.
func (k *Kernel) act(p *Proc) {
	switch p.state {
	case 'Z':
		if q := p.parent; q != nil && q.PID != first && q.PID != host && q.state == 'R' && k.IntN(2) == 0 {
			k.Reap(p)
		}
		return
	case 'T', 0:
		return
	}
	if p.forking != nil || len(p.signals) > 0 || p.PID == first || p.PID == host {
		return
	}
	if p.Run == 0 {
		k.actStranger(p)
		return
	}
	if p.asleep && k.IntN(4) > 0 {
		return
	}
	switch roll := k.IntN(40); {
	case roll < 16:
		k.beginFork(p)
	case roll < 20 && !p.Leader:
		k.exit(p)
	case roll < 23 && !p.Leader:
		k.Setsid(p)
	case roll < 25 && !p.Leader && p.Session != p.PID:
		k.move(p, p.PID, p.Session)
	case roll < 30:
		k.alter(p)
	case roll < 31 && p.Leader && k.IntN(20) == 0:
		k.exit(p)
	}
}

// alter has a process change a mark, but not so that nothing is left to tell it by.
func (k *Kernel) alter(p *Proc) {
	if p.altered || p.Leader {
		return
	}
	p.altered = true
	switch k.IntN(5) {
	case 0:
		p.Soft = noLimit
	case 1:
		p.Soft = 1<<62 | uint64(k.Uint32()>>1|1)<<31 | uint64(k.Uint32()>>1|1)
	case 2:
		for id, run := range k.Runs {
			if id != p.Run && run.Limit != 0 {
				p.Soft = run.Limit
			}
		}
	case 3:
		if p.Slice = 7_000_000 + uint64(k.IntN(1000)); !k.Slices {
			p.Slice = BaseSlice
		}
	case 4:
		p.Environ = ""
	}
}

func (k *Kernel) actStranger(p *Proc) {
	if p.Soft != p.was {
		return // marked by number, and for as long as it takes to find out; that it forks right then is not modeled
	}
	switch roll := k.IntN(20); {
	case roll < 4 && len(k.all) < 4*k.Strangers+20:
		k.beginFork(p)
	case roll < 6:
		k.number() // a clone that fails late, or a thread
	case roll < 10 && p.parent != nil && len(k.all) > k.Strangers:
		k.exit(p)
	case roll == 10:
		k.Setsid(p)
	}
}

// send sends a signal of this process's.
func (k *Kernel) send(p *Proc, sig syscall.Signal) {
	if sig == 0 || p.state == 'Z' {
		return
	}
	if p.Run != 1 {
		k.Wrong = append(k.Wrong, fmt.Sprintf("signal %d to a stranger: %s", sig, p.Text()))
		return
	}
	p.signals = append(p.signals, sig)
	p.due = k.now.Add(time.Duration(k.Int64N(int64(3 * time.Millisecond))))
}

func (k *Kernel) deliver(p *Proc) {
	signals := p.signals
	p.signals = nil
	for _, sig := range signals {
		if p.state == 'Z' {
			return
		}
		switch {
		case sig == syscall.SIGKILL:
			k.exit(p)
		case sig == syscall.SIGSTOP:
			p.state = 'T'
		case sig == syscall.SIGCONT:
			p.state = 'R'
		case p.breeds && p.state == 'R' && p.forking == nil:
			p.hops = true
			k.beginFork(p)
		case p.deaf || p.state == 'T':
		default:
			k.exit(p)
		}
	}
}
