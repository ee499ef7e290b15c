package diagnose

import (
	"sync"
	"sync/atomic"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// A census lists the processes of the machine by session, once for all who ask at the same time: were each of a
// thousand reports to list them for itself, their time would grow with the square of their number.
type census struct {
	read    func() map[int][]int
	waiting atomic.Int32 // askers that do not have the lock
	begun   atomic.Uint64

	sync.Mutex
	last   map[int][]int // while somebody waits that may have asked before it was begun
	number uint64        // of the last, among those that were begun
}

var sessions = census{read: readSessions}

// members returns the processes of a session. They are listed after the call.
func (c *census) members(session int) []int {
	asked := c.begun.Load()
	c.waiting.Add(1)
	c.Lock()
	defer c.Unlock()
	if c.waiting.Add(-1); c.last == nil || c.number <= asked {
		c.number = c.begun.Add(1)
		c.last = c.read()
	}
	found := c.last[session]
	if c.waiting.Load() == 0 {
		c.last = nil
	}
	return found
}

func readSessions() map[int][]int {
	everyone, _ := procfs.PIDs()
	list := make(map[int][]int)
	for _, pid := range everyone {
		if sid, err := sys.Session(pid); err == nil {
			list[sid] = append(list[sid], pid)
		}
	}
	return list
}
