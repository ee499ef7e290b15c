package fdtable

import (
	"fmt"
	"os"
	"slices"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// Pass returns the ExtraFiles with which a child gets our descriptors fds under their own numbers,
// behind the extra files it gets anyway. The files of opened are to be closed after the start. It
// is called after [Seal].
//
// Duplicates are handed over, in this child alone, instead of taking the mark off ours, which every
// other start of this process would see. os/exec closes the numbers of a list that have no file, so
// what lies in between and would be inherited is listed too.
func Pass(fds []int, extra []*os.File) (all, opened []*os.File, err error) {
	highest := 0
	for _, fd := range fds {
		// Before the first duplicate: while we have one of a pipe, its reader waits for its end.
		if _, err := sys.CloseOnExec(fd); err != nil {
			return nil, nil, notPassed(fd, err)
		}
		highest = max(highest, fd)
	}
	all = append(all, extra...)
	for fd := FirstFD + len(extra); fd <= highest; fd++ {
		wanted := slices.Contains(fds, fd)
		marked, err := sys.CloseOnExec(fd)
		if !wanted && (marked || err != nil) {
			all = append(all, nil)
			continue
		}
		dup := -1
		if err == nil {
			dup, err = sys.Dup(fd)
		}
		if err != nil {
			CloseAll(opened)
			return nil, nil, notPassed(fd, err)
		}
		// NewFile leaves O_NONBLOCK as it is, and so does os/exec with such a file.
		f := os.NewFile(uintptr(dup), "")
		all, opened = append(all, f), append(opened, f)
	}
	return all, opened, nil
}

func notPassed(fd int, err error) error {
	return fmt.Errorf("descriptor %d: %w", fd, os.NewSyscallError("fcntl", err))
}
