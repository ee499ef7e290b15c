package ladder

import (
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// maxWatched is how many members step watches. When all of them are dead it is time for a look, however
// many others there are.
const maxWatched = 64

// WatchMembers makes step watch for the members' deaths, and reports whether it watches all. Of many it
// prefers the last, which Kill has signaled last.
func (e *Climber) WatchMembers(members []*proctree.Member) bool {
	if e.Blind {
		return false
	}
	all := true
	for _, m := range slices.Backward(members) {
		token := TokenMember + m.PID
		if e.watched[token] == m {
			continue
		}
		if m.FD < 0 || len(e.watched) >= maxWatched || e.Poller.Add(m.FD, poll.Read, token) != nil {
			all = false
			continue
		}
		if e.watched == nil {
			e.watched = make(map[int]*proctree.Member)
		}
		e.watched[token] = m
	}
	return all
}

// MemberDied takes note of the death of the member with the token.
func (e *Climber) MemberDied(token int) {
	if m := e.watched[token]; m != nil {
		e.Tree.Gone(m)
	}
}

// UnwatchMember is called by the tree before it closes a member's descriptor.
func (e *Climber) UnwatchMember(m *proctree.Member) {
	if token := TokenMember + m.PID; e.watched[token] == m {
		delete(e.watched, token)
		_ = e.Poller.Remove(m.FD)
	}
}

// leafDeath is how long those in a cgroup have to die at once before they are looked at one by one. To do
// that meanwhile takes longer: thousands of processes need a tenth of a second.
const leafDeath = 500 * time.Millisecond

// vacates reports whether the cgroup, which was killed, becomes empty within that, or half of the
// time that is left if that is shorter.
func (e *Climber) vacates(until time.Time) bool {
	e.watchLeaf()
	until = time.Now().Add(min(leafDeath, time.Until(until)/2))
	for e.LookAtLeaf(); !e.vacated && time.Now().Before(until); e.LookAtLeaf() {
		e.Waiter.Step(Earlier(until, time.Now().Add(FirstLook)))
	}
	// A dying process leaves the cgroup a moment before its exit is seen. For one that had left the cgroup the wait is
	// short.
	for soon := Earlier(until, time.Now().Add(FirstLook)); e.vacated && !e.Exited && time.Now().Before(soon); {
		e.Waiter.Step(soon)
	}
	return e.vacated
}

// watchLeaf has step told when the cgroup becomes empty. Where that cannot be had, it is looked at.
func (e *Climber) watchLeaf() {
	if e.Leaf == nil || e.leafWatched {
		return
	}
	e.leafWatched = true
	_ = e.Poller.Add(e.Leaf.EventsFD(), poll.Change, TokenCgroup)
	e.LookAtLeaf() // a change is one of what was last read
}

// LookAtLeaf sees whether the cgroup is empty.
func (e *Climber) LookAtLeaf() {
	populated, err := e.Leaf.Populated()
	e.vacated = err == nil && !populated
}
