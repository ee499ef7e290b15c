package sys

import "golang.org/x/sys/unix"

// An EpollEvent is what epoll_wait(2) hands over; Fd carries the token given to [EpollAdd].
type EpollEvent = unix.EpollEvent

// Bits of an EpollEvent. Hangup and error are always reported, asked for or not.
const (
	EpollIn     = unix.EPOLLIN
	EpollOut    = unix.EPOLLOUT
	EpollChange = unix.EPOLLPRI // of files that the kernel writes: cgroups(7), cgroup.events
	EpollHangup = unix.EPOLLHUP | unix.EPOLLERR
)

// EpollCreate makes an epoll instance, close-on-exec and marked non-blocking, so that the Go
// runtime's own poller takes it: an epoll descriptor is readable while it has events.
func EpollCreate() (int, error) {
	if !Enabled(Epoll) {
		return -1, unix.ENOSYS
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK); err != nil { // no other flag to keep
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// EpollAdd watches fd for events, level-triggered.
func EpollAdd(epfd, fd int, events uint32, token int32) error {
	return unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &EpollEvent{Events: events, Fd: token})
}

// EpollRemove stops watching fd.
func EpollRemove(epfd, fd int) error {
	return unix.EpollCtl(epfd, unix.EPOLL_CTL_DEL, fd, nil)
}

// EpollPoll returns the events that are there now; it does not wait.
func EpollPoll(epfd int, events []EpollEvent) (int, error) {
	for {
		n, err := unix.EpollWait(epfd, events, 0)
		if err != unix.EINTR {
			return max(n, 0), err
		}
	}
}
