package diagnose

import (
	"os"
	"time"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// A PipeUse is who has a pipe open, and how full it is.
type PipeUse struct {
	Readers, Writers []End // one that has it open for both is in both
	Filled, Size     int   // -1 if unknown
	Unseen           int   // processes whose descriptors may not be seen
}

// Pipe looks for a pipe in all processes, for as long as that takes or quit returns false.
func Pipe(inode uint64, quit func() bool) PipeUse {
	now := time.Now()
	c := newCollector(Target{PID: os.Getpid()}, now, now.Add(time.Hour))
	c.quit = quit
	c.publish = func(*Snapshot) {}
	c.ends.endTurn = func() {} // somebody asked for this one, and quit is to end it
	link := pipeLink(inode)
	c.ends.begin()
	c.ends.finish()
	use := PipeUse{
		Readers: c.ends.of(link, readEnd, 0), Writers: c.ends.of(link, writeEnd, 0), Filled: -1, Size: -1,
		Unseen: c.ends.unseen,
	}
	measure := func(fd int) {
		if n, err := sys.Unread(fd); err == nil {
			use.Filled = n
		}
		if n, err := sys.PipeSize(fd); err == nil {
			use.Size = n
		}
	}
	for _, end := range c.ends.any(link, 0) {
		if sys.BorrowFD(end.PID, end.FD, measure) == nil {
			return use
		}
	}
	// Opening an end that nobody has would make a reader, or a writer, out of us.
	if len(use.Readers) > 0 {
		_ = sys.ReopenReader(fdPath(use.Readers[0].PID, use.Readers[0].FD), measure)
	}
	return use
}
