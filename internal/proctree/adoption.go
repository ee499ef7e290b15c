package proctree

import (
	"os"
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/census"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// SetSubreaper has orphans among our descendants become our children.
func SetSubreaper() error { return sys.SetSubreaper() }

// ReapAdopted reaps members that died as children of ours, having lost their parents. A zombie keeps its
// marks and its session, which tell it from the other children of this process as they tell living ones:
// the leader of another run bears that run's mark, and what os/exec started bears none. It does not
// block. It comes before the leader is reaped, and leaves the leader alone.
func (t *Tree) ReapAdopted() {
	if !t.adopts && !t.siblings || !sys.Enabled(sys.Sweep) || t.root == nil && t.born.childless() {
		return
	}
	t.allot(time.Time{})
	t.askLeader()
	until := time.Now().Add(lookTime) // for the lists of others, in all passes
	for range maxPasses {             // a child reaped while the list is read can hide others
		if !t.reapListed(until) {
			return
		}
	}
}

// reapListed reaps what a list shows, and reports whether it reaped one. If no list of others is to be had in time, it
// makes its own: nothing else reaps these zombies later.
func (t *Tree) reapListed(until time.Time) (reaped bool) {
	var pids []int
	if dead, _ := deadChildren.Take(until); dead != nil {
		defer dead.Release()
		pids = dead.Of
	} else {
		pids = listDeadChildren()
	}
	for _, pid := range pids {
		reaped = t.reapAdopted(pid) || reaped
	}
	return reaped
}

// reapAdopted reaps our child pid if it is a zombie of the tree. The pidfd pins it against other code in
// this process that reaps every child.
func (t *Tree) reapAdopted(pid int) bool {
	if exited, err := sys.ExitedUnreaped(pid); err != nil || !exited || pid == t.leader {
		return false
	}
	fd, err := sys.PidfdOpen(pid)
	if err == nil {
		defer sys.Close(fd)
	}
	if t.judge(pid, anywhere) != ours {
		return false
	}
	var used sys.Usage
	if err == nil {
		used, err = sys.ReapPidfd(fd)
	} else {
		used, err = sys.Reap(pid)
	}
	if err != nil {
		return false
	}
	t.noteReaped(used)
	return true
}

var deadChildren = census.New(func(dead *[]int, _ int) { *dead = listDeadChildren() })

// listDeadChildren lists our zombies, but not the leaders of runs, which reap those themselves.
func listDeadChildren() []int {
	return slices.DeleteFunc(ourChildren(), func(pid int) bool {
		exited, err := sys.ExitedUnreaped(pid)
		return err != nil || !exited || runLedBy(pid) != 0
	})
}

// ourChildren lists our children, zombies included.
func ourChildren() []int {
	pids, err := procfs.Children(procfs.Self)
	if err == nil {
		return pids
	}
	pids = nil // the kernel keeps no lists: CONFIG_PROC_CHILDREN
	everyPID(nil, func(pid int, _ origin) {
		if st, err := procfs.ReadStatNoComm(pid); err == nil && st.PPID == os.Getpid() {
			pids = append(pids, pid)
		}
	}, os.Getpid(), pidMax.get())
	return pids
}
