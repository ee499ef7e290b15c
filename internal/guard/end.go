package guard

import (
	"errors"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec/internal/cgroup"
	"github.com/seed841d8200/safeexec/internal/ending"
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

// What is wrong with the end of a tree.
var (
	errUnseen    = errors.New("not all processes could be looked at")
	errSurvivors = errors.New("processes of the tree are alive")
	errLocked    = errors.New("another process has the lock on it")
)

// The pauses between two tries.
const (
	firstPause = time.Millisecond
	lastPause  = 50 * time.Millisecond
)

// end climbs the ladder until a look finds the tree empty, and ends what is left in the cgroup.
func (d *Ended) end(run Run) {
	d.Err = d.endTree(run)
	if run.Cgroup != "" {
		d.Err = errors.Join(d.Err, endCgroup(run.Cgroup, time.Now().Add(max(run.Ladder.Kill, leafBound))))
	}
}

func (d *Ended) endTree(run Run) error {
	var e ending.Ending
	if err := recall(&e.Tree, run); err != nil {
		return err
	}
	defer e.Tree.Forget()
	if run.Cgroup != "" {
		if leaf, err := cgroup.Watch(run.Cgroup); err == nil { // or endCgroup says why
			defer leaf.Close()
			e.Tree.Contain(leaf)
		}
	}
	members, sure := e.Climb(escalate.New(
		escalate.Rung{Signal: syscall.Signal(run.Ladder.Signal), Wait: run.Ladder.Grace},
		escalate.Rung{Signal: syscall.SIGKILL, Wait: run.Ladder.Kill},
	))
	d.Killed = append(d.Killed, e.Killed(members)...)
	for _, m := range members {
		d.Survivors = append(d.Survivors, m.Process)
	}
	switch {
	case len(members) > 0:
		return errSurvivors
	case !sure:
		return errUnseen
	}
	return nil
}

// recall looks for the tree. Many trees are ended at once, and there may be no descriptor for a moment.
func recall(tree *proctree.Tree, run Run) error {
	until := time.Now().Add(run.Ladder.Grace + run.Ladder.Kill)
	for {
		err := tree.Recall(run.Trace, until)
		if _, protected := errors.AsType[proctree.ProtectedError](err); err == nil || protected || !time.Now().Before(until) {
			return err
		}
		time.Sleep(lastPause)
	}
}

// leafBound is how long a child of the program that has not executed yet can keep the lock on a cgroup.
const leafBound = 2 * time.Second

// endCgroup kills what is left in the run's cgroup, and removes it.
func endCgroup(dir string, until time.Time) error {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		gone, err := cgroup.EndStale(dir)
		if gone || err != nil {
			return err
		}
		if !time.Now().Before(until) {
			return &cgroup.Error{Op: "remove", Dir: dir, Err: errLocked}
		}
		time.Sleep(pause)
	}
}
