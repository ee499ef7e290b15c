// Command life makes runs on a simulated kernel, each from one seed, and says what went wrong. It is built with a
// proctree that calls that kernel, see package model.
package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/model/testdata/kernel"
	simos "github.com/seed841d8200/safeexec/internal/model/testdata/os"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

func main() {
	seed := flag.Uint64("seed", 1, "of the first run")
	count := flag.Uint64("count", 1000, "how many runs")
	most := flag.Duration("time", time.Hour, "how long, if that is less")
	fault := flag.String("fault", "", "what is planted")
	verbose := flag.Bool("v", false, "say what each is")
	flag.Parse()
	kernel.Plant(*fault)
	began := time.Now()
	var runs, unseen, looks, calls int
	for n := *seed; n < *seed+*count && time.Since(began) < *most; n++ {
		l := live(n)
		runs++
		looks += l.looks
		calls += l.Calls
		if l.unseen {
			unseen++
		}
		if *verbose {
			fmt.Printf("%d: %+v unseen %v looks %d\n", n, l.Options, l.unseen, l.looks)
		}
		if len(l.Wrong) > 0 {
			fmt.Printf("seed %d, %+v:\n", n, l.Options)
			for _, w := range l.Wrong[:min(len(l.Wrong), 5)] {
				fmt.Println("\t" + w)
			}
			os.Exit(1)
		}
	}
	fmt.Printf("%d runs, %d looks, %d calls, %d unseen, %.0f runs a second\n", runs, looks, calls, unseen,
		float64(runs)/time.Since(began).Seconds())
	if unseen*100 > runs {
		fmt.Println("trees that are gone are not seen to be")
		os.Exit(1)
	}
}

// A life is that of one run.
type life struct {
	*kernel.Kernel
	leader *kernel.Proc
	marks  proctree.Mark
	tree   proctree.Tree
	until  time.Time
	looks  int
	exited bool // known
	empty  bool
	unseen bool
}

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func live(seed uint64) *life {
	r := rand.New(rand.NewPCG(seed, 0))
	l := &life{Kernel: kernel.New(kernel.Options{
		PIDMax: pick(r, 1000, 1500, 4000, 32768), CPUs: 1 + r.IntN(4), Pidfds: r.IntN(4) > 0, Slices: r.IntN(2) > 0,
		GroupSignals: r.IntN(2) > 0, Subreaper: r.IntN(4) == 0, Faults: r.IntN(4) == 0, Strangers: 1 + r.IntN(12),
		Gap: pick[time.Duration](r, 1, 50_000, 500_000), Preempt: pick[time.Duration](r, 0, 3e6, 20e6),
		SlowReap: pick[time.Duration](r, 0, 5e6, 50e6),
	}, r)}
	kernel.K = l.Kernel
	proctree.Reset()
	var other life
	if r.IntN(2) == 0 {
		other.Kernel = l.Kernel
		other.begin(2)
	}
	l.begin(1)
	l.run()
	l.end()
	if other.Kernel != nil {
		other.tree.Close()
		other.marks.End()
	}
	l.check(l.Files() == 0, "%d descriptors are left", l.Files())
	for _, p := range l.Spoiled() {
		l.check(false, "a stranger's limit is changed: %s", p.Text())
	}
	return l
}

func (l *life) check(ok bool, format string, args ...any) {
	if !ok {
		l.Wrong = append(l.Wrong, fmt.Sprintf(format, args...))
	}
}

// begin starts the leader as a run does.
func (l *life) begin(id int) {
	l.marks.Begin()
	env := l.marks.Environ(&exec.Cmd{Env: []string{}})
	run := &kernel.Run{}
	l.Runs[id] = run
	forks := l.IntN(60)
	_ = l.marks.Start(func() error {
		l.leader = l.Fork(l.Host())
		l.leader.Run, l.leader.Leader, l.leader.Environ = id, true, env[len(env)-1][len(proctree.Variable)+1:]
		l.Setsid(l.leader)
		if l.Slices { // or whoever is born before the mark has none
			run.Forks = forks
		}
		return nil
	})
	process := &simos.Process{Pid: l.leader.PID, Held: l.leader}
	if l.marks.Limit(l.leader.PID) {
		run.Limit = l.leader.Soft
	}
	run.Forks = forks
	l.tree.Init(proctree.Origin{Process: process, Started: l.marks.Started(), Mark: &l.marks})
	l.tree.MarkBorn()
}

// run is what comes before the end: the leader works, and is looked at now and then.
func (l *life) run() {
	end := l.Now().Add(time.Duration(l.IntN(int(20 * time.Millisecond))))
	for l.Now().Before(end) && !l.leads() {
		l.Advance(time.Duration(l.IntN(int(3 * time.Millisecond))))
		if l.IntN(3) == 0 {
			l.look(l.tree.Live)
		}
	}
	if l.IntN(3) == 0 {
		l.Exit(l.leader)
	}
	if l.gone() && l.IntN(4) == 0 && l.leader.State() != 0 { // somebody else waits for everybody
		l.Reap(l.leader)
	}
}

func (l *life) gone() bool { return l.leader.State() == 'Z' || l.leader.State() == 0 }

// leads reports whether the run knows that the leader has exited.
func (l *life) leads() bool {
	if !l.exited {
		l.exited = l.tree.LeaderExited()
		l.check(!l.exited || l.gone(), "the leader is taken to have exited")
	}
	return l.exited
}

func (l *life) bound(until time.Time) {
	l.until = until
	l.tree.Until(until)
}

// A look's own time, and what a few calls of it may take when this process is held up.
const (
	lookTime = 250 * time.Millisecond
	slack    = 150 * time.Millisecond
)

func (l *life) look(how func() ([]*proctree.Member, bool)) ([]*proctree.Member, bool) {
	exited, began := l.leads(), l.Now()
	members, sure := how()
	l.looks++
	took := l.Now().Sub(began)
	l.check(took < max(lookTime, l.until.Sub(began))+slack, "a look takes %v", took)
	l.empty, l.unseen = false, !sure
	if sure && len(members) == 0 && exited {
		l.empty = true
		for _, p := range l.Alive(1) {
			l.check(false, "the tree is taken to be empty: %s", p.Text())
		}
	}
	return members, sure
}

// end is the end of a run.
func (l *life) end() {
	began := l.Now()
	grace := time.Duration(l.IntN(int(30 * time.Millisecond)))
	ladder := escalate.New(escalate.Rung{Signal: syscall.SIGTERM, Wait: grace},
		escalate.Rung{Signal: syscall.SIGKILL, Wait: 2 * time.Second})
	if l.leads() {
		l.await(0, l.Now().Add(grace))
	}
	for !l.empty {
		rung, more := ladder.Next(l.Now())
		if !more {
			break
		}
		l.bound(ladder.Until())
		l.signal(rung.Signal)
		l.await(rung.Signal, ladder.Until())
	}
	took := l.Now().Sub(began)
	l.check(took < 2*grace+2*time.Second+3*(lookTime+slack), "the end takes %v", took)
	alive := l.Alive(1)
	l.check(len(alive) == 0 || l.tree.Stuck(), "%d are left, empty %v, unseen %v, the first is %v", len(alive), l.empty, l.unseen, text(alive))
	l.unseen = !l.empty && len(alive) == 0
	l.tree.ReapAdopted()
	l.tree.Close()
	if l.leader.State() == 'Z' {
		l.Reap(l.leader)
	}
	l.marks.End()
}

func text(list []*kernel.Proc) string {
	if len(list) == 0 {
		return ""
	}
	return list[0].Text()
}

func nobody(*proctree.Member) {}

func (l *life) signal(sig syscall.Signal) {
	if sig == syscall.SIGKILL {
		l.tree.Kill(l.until, nobody)
		return
	}
	members, _ := l.look(l.tree.All)
	l.send(sig, members)
	l.send(proctree.SIGCONT, members)
}

func (l *life) send(sig syscall.Signal, members []*proctree.Member) {
	grouped := l.tree.SignalGroup(sig) == nil
	if !l.leads() && l.tree.LeaderStrays() {
		_ = l.tree.SignalLeader(sig)
	}
	for _, m := range members {
		if !grouped || !l.tree.InLeaderGroup(m) {
			_ = l.tree.Signal(m, sig)
		}
	}
}

// await looks until the tree is empty.
func (l *life) await(rung syscall.Signal, until time.Time) {
	l.bound(until)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		l.look(l.tree.Live)
		if l.empty {
			return
		}
		if rung == syscall.SIGKILL {
			if !l.leads() {
				_ = l.tree.SignalLeader(rung)
			}
			if l.tree.Fresh() {
				l.tree.Kill(until, nobody)
			}
		}
		left := until.Sub(l.Now())
		if left <= 0 {
			return
		}
		l.Advance(min(pause, left))
	}
}
