package diagnose

import (
	"os"
	"time"
)

// A PipeUse says which processes have a pipe open, and how full it is.
type PipeUse struct {
	Readers, Writers []End // one that has it open for both is in both
	Filled, Size     int   // -1 if unknown
	Unseen           int   // processes whose descriptors may not be read
}

// Pipe looks for a pipe in all processes, for as long as that takes or quit returns false.
func Pipe(inode uint64, quit func() bool) PipeUse {
	now := time.Now()
	c := newCollector(Target{PID: os.Getpid()}, now, now.Add(time.Hour))
	c.quit = quit
	c.publish = func(*Snapshot) {}
	c.ends.endTurn = func() {} // the caller asked for this pipe, and quit ends the search
	link := pipeLink(inode)
	c.ends.begin()
	c.ends.finish()
	use := PipeUse{
		Readers: c.ends.of(link, readEnd, 0), Writers: c.ends.of(link, writeEnd, 0), Filled: -1, Size: -1,
		Unseen: c.ends.unseen,
	}
	for _, end := range c.ends.any(link, 0) {
		if found, ok := c.fill(end, inode); ok {
			use.Filled, use.Size = found.filled, found.size
			break
		}
	}
	return use
}
