package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/sys"
)

// Kill sends SIGKILL to all that is in the leaf and below it. It does not wait for their end, and may
// be repeated: on kernels before 6.14 a fork can slip through cgroup.kill. Where there is the pids
// controller no fork gets in from here on, so that nothing can.
func (l *Leaf) Kill() error {
	_ = write(l.dir, "pids.max", "0") // absent without the controller; what follows does not rely on it
	if sys.Enabled(sys.CgroupKill) {
		err := write(l.dir, "cgroup.kill", "1")
		switch {
		case err == nil:
			return nil
		case sys.NoDevice(err):
			return nil // removed, and so empty
		case !errors.Is(err, fs.ErrNotExist): // before 5.14 it is not there
			return &Error{Op: "cgroup.kill", Dir: l.dir, Err: cause(err)}
		}
	}
	return l.killEach()
}

// Freeze stops all processes in the leaf, in a way that none of them can undo or see. It takes effect within
// moments, and Freeze does not wait for it. It needs Linux 5.2. The caller must call the function that it
// returns, which undoes it, and needs no new descriptor, of which there may be none by then.
func (l *Leaf) Freeze() (thaw func(), err error) {
	f, err := os.OpenFile(l.dir+"/cgroup.freeze", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	if _, err := f.WriteString("1"); err != nil {
		f.Close()
		return nil, err
	}
	return func() {
		_, _ = f.WriteString("0")
		f.Close()
	}, nil
}

// killPasses bounds the passes of killEach. Forks end with the first one where the cgroup can be frozen.
const killPasses = 64

// killEach freezes the leaf, which keeps all in it from forking, and sends SIGKILL to each process until a
// pass finds no new one. Freezing takes effect a moment after the write, hence the passes; before 5.2 there
// is no freezing, only the passes. A frozen process dies of SIGKILL without being thawed.
func (l *Leaf) killEach() error {
	_ = write(l.dir, "cgroup.freeze", "1") // for good
	sent := make(map[int]bool)
	var first error
	for range killPasses {
		found := false
		err := l.PIDs(func(pid int) bool {
			if !sent[pid] {
				sent[pid], found = true, true
				if err := l.killOne(pid); err != nil && first == nil {
					first = &Error{Op: "kill", Dir: l.dir, Err: err}
				}
			}
			return true
		})
		if err != nil {
			return err
		}
		if !found {
			return first
		}
	}
	return first
}

// killOne kills pid. Since it was listed the number may have changed hands: from the moment that the
// pidfd is open it means one process, and that is asked whether it belongs here.
func (l *Leaf) killOne(pid int) error {
	fd, err := sys.PidfdOpen(pid)
	if sys.Gone(err) || !l.Contains(pid) {
		if fd >= 0 && err == nil {
			sys.Close(fd)
		}
		return nil
	}
	if err != nil { // no pidfds: between the question and the signal lie microseconds
		err = sys.Kill(pid, syscall.SIGKILL)
	} else {
		err = sys.PidfdSignal(fd, syscall.SIGKILL)
		sys.Close(fd)
	}
	if sys.Gone(err) {
		return nil
	}
	return err
}
