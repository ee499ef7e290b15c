package reexec

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"syscall"

	"github.com/seed841d8200/safeexec/internal/procfs"
	"github.com/seed841d8200/safeexec/internal/sys"
)

// adopt has a copy reaped once it ends. An orphan is a child of a program that is the first process of its PID
// namespace, or a subreaper, and would stay a zombie there. That costs a pidfd and a parked goroutine for each copy,
// until its end. A copy stays a zombie, and does no other harm, before Linux 5.4, and if its first stage is killed
// between the start of the copy and the line that says which process it is. That line is one write, which is there
// wholly or not at all, and the first stage has ended when it is read.
func adopt(child *os.File) {
	var pid int
	var start uint64
	if _, err := fmt.Fscan(io.NewSectionReader(child, 0, math.MaxInt64), &pid, &start); err != nil {
		return
	}
	fd, err := sys.PidfdOpen(pid)
	if err != nil {
		return
	}
	// Who reaps all children of this process may have been here, and the number may be another's.
	st, err := procfs.ReadStatNoComm(pid)
	if err != nil || st.StartTime != start || syscall.SetNonblock(fd, true) != nil {
		sys.Close(fd)
		return
	}
	go reap(os.NewFile(uintptr(fd), "pidfd"))
}

// reap waits without a thread.
func reap(pidfd *os.File) {
	defer pidfd.Close()
	conn, err := pidfd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) (ended bool) {
		_, err := sys.ReapPidfd(int(fd))
		return !errors.Is(err, syscall.EAGAIN)
	})
}
