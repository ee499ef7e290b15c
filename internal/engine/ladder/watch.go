package ladder

import (
	"slices"
	"time"

	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/proctree"
)

// maxWatched is how many members the poller watches. Once all of them are dead, a look finds the others.
const maxWatched = 64

// WatchMembers makes Await report the members' deaths, and reports whether all are watched. Of many it prefers the
// last, which Kill signals last.
func (c *Climber) WatchMembers(members []*proctree.Member) bool {
	if c.Blind {
		return false
	}
	all := true
	for _, m := range slices.Backward(members) {
		token := TokenMember + m.PID
		if c.watched[token] == m {
			continue
		}
		if m.FD < 0 || len(c.watched) >= maxWatched || c.Poller.Add(m.FD, poll.Read, token) != nil {
			all = false
			continue
		}
		if c.watched == nil {
			c.watched = make(map[int]*proctree.Member)
		}
		c.watched[token] = m
	}
	return all
}

// MemberDied takes note of the death of the member with the token.
func (c *Climber) MemberDied(token int) {
	if m := c.watched[token]; m != nil {
		c.Tree.Gone(m)
	}
}

// UnwatchMember is called by the tree before it closes a member's descriptor.
func (c *Climber) UnwatchMember(m *proctree.Member) {
	if token := TokenMember + m.PID; c.watched[token] == m {
		delete(c.watched, token)
		_ = c.Poller.Remove(m.FD)
	}
}

// leafDeath is how long the processes of a cgroup have to die together before they are looked at one by one, which
// takes longer: thousands of processes need a tenth of a second to die.
const leafDeath = 500 * time.Millisecond

// vacates reports whether the killed cgroup becomes empty within leafDeath, or within half of the time that is left if
// that is shorter.
func (c *Climber) vacates(until time.Time) bool {
	c.watchLeaf()
	until = time.Now().Add(min(leafDeath, time.Until(until)/2))
	for c.LookAtLeaf(); !c.vacated && time.Now().Before(until); c.LookAtLeaf() {
		c.Waiter.Step(Earlier(until, time.Now().Add(FirstLook)))
	}
	// A dying process leaves the cgroup shortly before its exit is seen. A leader that had left the cgroup may live, so
	// this wait is short.
	for soon := Earlier(until, time.Now().Add(FirstLook)); c.vacated && !c.Exited && time.Now().Before(soon); {
		c.Waiter.Step(soon)
	}
	return c.vacated
}

// watchLeaf makes Await report changes of the cgroup. Where it cannot, the cgroup is looked at.
func (c *Climber) watchLeaf() {
	if c.Leaf == nil || c.leafWatched {
		return
	}
	c.leafWatched = true
	_ = c.Poller.Add(c.Leaf.EventsFD(), poll.Change, TokenCgroup)
	c.LookAtLeaf() // the kernel reports changes since the last read
}

// LookAtLeaf sees whether the cgroup is empty.
func (c *Climber) LookAtLeaf() {
	populated, err := c.Leaf.Populated()
	c.vacated = err == nil && !populated
}
