package engine

import (
	"time"

	"github.com/seed841d8200/safeexec/internal/engine/ladder"
	"github.com/seed841d8200/safeexec/internal/engine/stdio"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// A reaper ends what is left of a run.
type reaper struct{ *Run }

// The holdings are everything that a run keeps until its end.
type holdings struct{ *Run }

// reap takes the leader's status, which gives up its numbers, and closes everything that the run holds.
func (r reaper) reap() {
	if r.actor != nil {
		play(r).reap()
		return
	}
	r.takeStock()
	r.Tree.ReapAdopted()
	leader(r).unwatch()
	r.Tree.Close()
	if r.Exited && !r.Tree.LeaderExited() {
		r.Exited = false
		r.Facts.Survivors = append(r.Facts.Survivors, proctree.Inspect(r.Facts.PID))
	}
	if !r.Exited {
		// It survived SIGKILL, or a tracer holds the zombie. Waiting for it here could be for ever.
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedLeader)
		go func() {
			_, _ = r.process.Wait()
			if r.own != nil {
				r.own.Process = stdio.Released()
				_ = r.own.Wait()
			}
		}()
	} else {
		if r.stops != nil {
			<-r.stops // closed at the exit; its goroutine uses the number, which is ours until the next line
		}
		r.Facts.State, r.Facts.WaitErr = r.process.Wait()
		if r.Facts.WaitErr != nil {
			_ = r.process.Release() // Wait keeps the pidfd if other code reaped
			r.Tree.ReapLeader()
		}
	}
	if r.inquiry != nil && !r.inquiry.Done() {
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedReport)
	}
	h := holdings(r)
	h.close()
	h.removeLeaf()
	r.Meter.Reaped(&r.Tree, r.Facts.State)
	r.Facts.Usage = r.Meter.Total()
	r.Facts.GuardRestarts = r.ward.End() // last: until here the guard may have to end the tree
	r.Facts.Times.Total = time.Since(r.Facts.Started)
}

// takeStock records what was signaled and what is alive.
func (r reaper) takeStock() {
	r.Facts.Hidden = r.Tree.Hidden()
	if r.Tree.Stuck() {
		r.Facts.Abandoned = append(r.Facts.Abandoned, AbandonedLook)
	}
	alive := make(map[proctree.Process]bool)
	r.Tree.Until(time.Now())
	switch {
	case r.left:
		r.listLeft()
	case !r.Empty:
		if !r.Exited {
			r.Facts.Survivors = append(r.Facts.Survivors, proctree.Inspect(r.Facts.PID))
		}
		members, _ := r.Tree.All()
		for _, m := range members {
			alive[ladder.Identity(m.Process)] = true
			r.Facts.Survivors = append(r.Facts.Survivors, ladder.Named(m.Process))
		}
	}
	if r.left || !r.Empty {
		r.Meter.Look(&r.Tree)
	}
	r.Facts.Killed = r.Killed(alive)
}

// close ends what wakes the run, the poller and the marks, and gives back what was reserved.
func (r holdings) close() {
	if r.unwatch != nil {
		r.unwatch()
	}
	delist(r.Run)
	for _, stop := range r.unforce {
		stop()
	}
	if r.Poller != nil {
		r.Poller.Close()
	}
	r.marks.End()
	if r.places > 0 { // for pipes that were not left
		leftPipes.Free(r.places)
		r.places = 0
	}
}

// removeLeaf removes the run's cgroup. Processes that survive keep it.
func (r holdings) removeLeaf() {
	if r.Leaf == nil {
		return
	}
	r.Facts.OOMKilled = r.Leaf.OOMKilled()
	if r.Facts.PID != 0 {
		r.Meter.Cgroup(r.Leaf)
	}
	until := ladder.Past
	if populated, err := r.Leaf.Populated(); err == nil && !populated {
		until = time.Now().Add(RemoveBound)
	}
	if r.Leaf.Remove(until) != nil {
		r.Facts.LeftCgroup = r.Leaf.Dir()
	}
	r.Leaf = nil
}
