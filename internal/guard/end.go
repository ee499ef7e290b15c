package guard

import (
	"cmp"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/escalate"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// An Ended is what the helper did to one run's tree.
type Ended struct {
	Host      int // PID of the program that died
	Program   string
	PID       int // of the leader; 0 if it was not known
	Killed    []proctree.Process
	Survivors []proctree.Process
	Took      time.Duration
	Err       error
}

// An ending is the end of one tree that another process has started.
type ending struct {
	ladder Ladder
	cgroup string

	tree      proctree.Tree
	signaled  map[proctree.Process]bool
	survivors []proctree.Process
}

// What is wrong with the end of a tree.
var (
	errUnseen    = errors.New("not all processes could be looked at")
	errSurvivors = errors.New("processes of the tree are alive")
)

// The pauses between two looks at a tree that is dying.
const (
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// end climbs the ladder until nobody of the tree is found, and ends what is left in the cgroup.
func (e *ending) end(tr proctree.Trace) error {
	err := e.endTree(tr)
	if e.cgroup == "" {
		return err
	}
	return errors.Join(err, e.endCgroup(time.Now().Add(max(e.ladder.Kill, leafBound))))
}

func (e *ending) endTree(tr proctree.Trace) error {
	if err := e.recall(tr); err != nil {
		return err
	}
	defer e.tree.Forget()
	e.signaled = make(map[proctree.Process]bool)
	ladder := escalate.New(
		escalate.Rung{Signal: syscall.Signal(e.ladder.Signal), Wait: e.ladder.Grace},
		escalate.Rung{Signal: syscall.SIGKILL, Wait: e.ladder.Kill},
	)
	for !e.empty(time.Now()) {
		rung, more := ladder.Next(time.Now())
		if !more {
			break
		}
		e.signal(rung.Signal, ladder.Until())
		e.await(rung.Signal, ladder.Until())
	}
	return e.takeStock()
}

// recall looks for the tree. Many trees are ended at once, and there may be no descriptor for a moment.
func (e *ending) recall(tr proctree.Trace) error {
	until := time.Now().Add(e.ladder.Grace + e.ladder.Kill)
	for {
		err := e.tree.Recall(tr, until)
		if _, protected := errors.AsType[proctree.ProtectedError](err); err == nil || protected || !time.Now().Before(until) {
			return err
		}
		time.Sleep(lastPause)
	}
}

// empty reports whether a look finds nobody.
func (e *ending) empty(until time.Time) bool {
	e.tree.Until(until)
	members, sure := e.tree.Live()
	return len(members) == 0 && sure
}

func (e *ending) signal(sig syscall.Signal, until time.Time) {
	e.tree.Until(until)
	note := func(m *proctree.Member) { e.signaled[m.Process] = true }
	if sig == syscall.SIGKILL {
		e.tree.Kill(until, note)
		return
	}
	members, _ := e.tree.Live()
	for _, sig := range []syscall.Signal{sig, proctree.SIGCONT} { // what is stopped would not hear of it
		for _, m := range members {
			note(m)
			_ = e.tree.Signal(m, sig) // what lives on is a survivor
		}
	}
}

// await looks at the tree until it is empty. What is born while SIGKILL is the rung gets it as well.
func (e *ending) await(rung syscall.Signal, until time.Time) {
	for pause := firstPause; !e.empty(until); pause = min(2*pause, lastPause) {
		left := time.Until(until)
		if left <= 0 {
			return
		}
		if rung == syscall.SIGKILL && e.tree.Fresh() {
			e.signal(rung, until)
		}
		time.Sleep(min(pause, left))
	}
}

func (e *ending) takeStock() error {
	members, sure := e.tree.Live()
	for _, m := range members {
		e.survivors = append(e.survivors, m.Process)
		delete(e.signaled, m.Process)
	}
	switch {
	case len(members) > 0:
		return errSurvivors
	case !sure:
		return errUnseen
	}
	return nil
}

// killed returns those that were signaled and are gone, the oldest first.
func (e *ending) killed() []proctree.Process {
	var list []proctree.Process
	for p := range e.signaled {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b proctree.Process) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID))
	})
	return list
}

// leafBound is how long a child of the program that has not executed yet can keep the lock on a cgroup.
const leafBound = 2 * time.Second

// endCgroup kills what is left in the run's cgroup, and removes it.
func (e *ending) endCgroup(until time.Time) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		gone, err := cgroup.EndStale(e.cgroup)
		if gone || err != nil || !time.Now().Before(until) {
			return err
		}
		time.Sleep(pause)
	}
}
