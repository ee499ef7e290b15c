package fdtable

import (
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// Pass returns the ExtraFiles with which a child gets our descriptors fds under their own numbers,
// behind the extra files it gets anyway, and none of withheld. The files of opened are to be closed
// after the start. It is called after [Seal].
//
// They are handed over, in this child alone, instead of taking the mark off ours, which every other
// start of this process would see. os/exec closes the numbers of a list that have no file, so what
// lies in between and would be inherited is listed too.
func Pass(fds, withheld []int, extra []*os.File) (all, opened []*os.File, err error) {
	highest := 0
	for _, fd := range fds {
		// Before the first duplicate: while we have one of a pipe, its reader waits for its end.
		if _, err := sys.CloseOnExec(fd); err != nil {
			return nil, nil, notPassed(fd, err)
		}
		highest = max(highest, fd)
	}
	for _, fd := range withheld {
		highest = max(highest, fd)
	}
	all = append(all, extra...)
	for fd := FirstFD + len(extra); fd <= highest; fd++ {
		wanted := slices.Contains(fds, fd)
		marked, err := sys.CloseOnExec(fd)
		if !wanted && (marked || err != nil || slices.Contains(withheld, fd)) {
			all = append(all, nil)
			continue
		}
		f, dup, err := handle(fd)
		if err != nil {
			CloseAll(opened)
			return nil, nil, notPassed(fd, err)
		}
		if all = append(all, f); dup {
			opened = append(opened, f)
		}
	}
	return all, opened, nil
}

func notPassed(fd int, err error) error {
	return fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
}

// handles holds one file for each number that was passed, for good: closing a file, or a duplicate of
// its descriptor, would drop the POSIX locks that this process has on it (fcntl(2)). They own nothing:
// each stands for its number, whatever is open under it by then.
var handles struct {
	sync.Mutex
	files map[int]*os.File
}

// handle returns a file for the descriptor fd. One with O_NONBLOCK that can be polled has to be a
// duplicate, which the caller must close: NewFile gives it to the runtime's poller, and the owner of fd
// could no longer do so. Those are pipes, sockets and devices, on which programs take no locks.
func handle(fd int) (f *os.File, dup bool, err error) {
	mode, err := sys.ModeOf(fd)
	if err != nil {
		return nil, false, err
	}
	if mode.Nonblock {
		file, err := sys.FileOf(fd)
		if err != nil {
			return nil, false, err
		}
		if file.Type != sys.TypeFile && file.Type != sys.TypeDirectory && file.Type != sys.TypeBlock {
			n, err := sys.Dup(fd)
			if err != nil {
				return nil, false, err
			}
			return os.NewFile(uintptr(n), ""), true, nil // with O_NONBLOCK, which os/exec leaves as it is
		}
	}
	handles.Lock()
	defer handles.Unlock()
	f, ok := handles.files[fd]
	if !ok {
		f = os.NewFile(uintptr(fd), "")
		if handles.files == nil {
			handles.files = make(map[int]*os.File)
		}
		handles.files[fd] = f
	}
	return f, false, nil
}
