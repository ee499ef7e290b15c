package pipe

import (
	"errors"
	"os"
	"syscall"
)

// Master makes e an end that is the master of a pseudo-terminal, which does not block, or a duplicate of it. The key
// names the slave: see [sys.FileKey].
func (e *End) Master(fd int, key uint64) {
	*e = End{fd: fd, open: true, master: true, slave: key, notify: e.notify}
}

// endOfMaster returns end where err says that no process has the slave open, as a pipe would.
func (e *End) endOfMaster(err, end error) error {
	if e.master && errors.Is(err, syscall.EIO) {
		return end
	}
	return err
}

// masterHolds is more than can wait in a pseudo-terminal: a page, and 8 KiB in buffers.
const masterHolds = 64 << 10

// unreadOfMaster returns at least how many bytes wait. FIONREAD leaves out what is on its way in the kernel, which
// poll(2) and read(2) wait for.
func (e *End) unreadOfMaster() int {
	if e.Readable() {
		return masterHolds
	}
	return 0
}

// Counts reports whether Unread counts what waits. Of a pseudo-terminal it says how much there may be.
func (e *End) Counts() bool { return !e.master }

// Resize sets the size of a terminal.
func (e *End) Resize(rows, cols uint16) error {
	if !e.open {
		return os.ErrClosed
	}
	_, err := e.do(callResize, nil, int(rows)<<16|int(cols))
	return err
}
