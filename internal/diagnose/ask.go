package diagnose

import "time"

// How long to wait for the answer of a process, at most and at least, however much time there is: nearly
// all processes answer even after the time for looking.
const (
	longestAnswer  = time.Second
	shortestAnswer = 5 * time.Millisecond
)

// ask returns what f finds out about a process, unless the process keeps it from that. Much of what is
// asked for lies behind a lock of the kernel's that a process can hold for ever, while its own memory does
// not come: that of its memory map, of a pipe, of a socket, of an epoll instance, of its next execve.
// So f is on a goroutine of its own, and shares nothing with this one. If it does not answer within half of
// the time that is left, it is left behind, until the process has ended, and the process is asked
// nothing more.
func ask[T any](c *collector, pid int, f func() (T, error)) (answer T, ok bool) {
	if c.held[pid] {
		return answer, false
	}
	answers := make(chan T, 1)
	go func() {
		defer close(answers)
		if answer, err := f(); err == nil {
			answers <- answer
		}
	}()
	late := time.NewTimer(max(shortestAnswer, min(time.Until(c.soft)/2, longestAnswer)))
	defer late.Stop()
	select {
	case answer, ok = <-answers:
	case <-late.C:
		c.held[pid] = true
	}
	return answer, ok
}
