package diagnose

import (
	"github.com/seed841d8200/safeexec/internal/census"
	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// sessions lists the processes of the machine by session, once for all reports that ask at the same time.
var sessions = census.New(func(list *map[int][]int, _ int) {
	*list = make(map[int][]int)
	if procfs.Foreign() { // to the thread that makes the list
		return
	}
	everyone, _ := procfs.PIDs()
	for _, pid := range everyone {
		if sid, err := sys.Session(pid); err == nil {
			(*list)[sid] = append((*list)[sid], pid)
		}
	}
})

// membersOf returns the processes of a session; none if they are not listed in time.
func (c *collector) membersOf(session int) []int {
	list, _ := sessions.Take(c.soft)
	if list == nil {
		return nil
	}
	defer list.Release()
	return list.Of[session]
}
