package sys

import "golang.org/x/sys/unix"

// Pipe makes a pipe, close-on-exec at both ends from the first moment. Both ends block.
func Pipe() (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, err
	}
	return p[0], p[1], nil
}

// GrowPipe asks for a pipe that holds at least size, and returns what it held before. An unprivileged user
// may have 1 MiB a pipe and a total of 64 MiB (pipe(7)); a refusal, EPERM, leaves the pipe as it was.
//
// It asks twice. Linux from 5.8 until 6.8, or 6.1.76 and its like, wakes a writer that waits for room before
// there is some, so that it waits on, and no read wakes it any more, since the pipe does not count as full
// any more: the writer hangs for ever (CVE-2023-52672). The second time there is room when it is woken.
func GrowPipe(fd, size int) (before int, err error) {
	before, err = unix.FcntlInt(uintptr(fd), unix.F_GETPIPE_SZ, 0)
	if err != nil || before >= size { // where pages are large, pipes are: it must not be made smaller
		return before, err
	}
	if err = SetPipeSize(fd, size); err != nil {
		return before, err
	}
	return before, SetPipeSize(fd, size)
}

// SetPipeSize makes a pipe hold size bytes. The error is EBUSY if it holds more at the moment.
func SetPipeSize(fd, size int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, size)
	return err
}

// NonblockPipe sets O_NONBLOCK, and no other flag, on an end of a new pipe. The access mode cannot be
// changed (fcntl(2), F_SETFL).
func NonblockPipe(fd int) error {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK)
	return err
}
