package sys

import "golang.org/x/sys/unix"

// OpenSink opens /dev/null for writing, close-on-exec. Whatever else has that name is ENODEV: a file
// there would grow.
func OpenSink() (int, error) {
	fd, err := unix.Open("/dev/null", unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != nullDevice {
		_ = unix.Close(fd)
		return -1, unix.ENODEV
	}
	return fd, nil
}

// nullDevice is the number of /dev/null (null(4)).
const nullDevice = 1<<8 | 3

// Splice moves at most n bytes from the pipe behind from to the file behind to (splice(2)), without a
// copy if that is /dev/null. It does not wait: EAGAIN means that the pipe is empty.
func Splice(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != unix.EINTR {
			return max(int(moved), 0), err //nolint:unconvert // narrower on some architectures
		}
	}
}
