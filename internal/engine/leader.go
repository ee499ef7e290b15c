package engine

import "syscall"

// A leader is the process of a run that was started.
type leader struct{ *Run }

// begun lets the caller have the process.
func (r *Run) begun() {
	if r.Lent != nil {
		close(r.Lent)
	}
}

// watch makes step see the leader's exit: through its pidfd, or, where that is -1, through a
// goroutine that blocks a thread in waitid until the exit.
func (r leader) watch(pidfd int) {
	// A short command is over by the time its parent has come back from vfork(2), and nothing has to be watched.
	if r.Exited = pidfd >= 0 && r.Tree.LeaderExited(); r.Exited {
		return
	}
	if pidfd >= 0 && r.WatchLeader(pidfd) {
		r.exitFD = pidfd
		return
	}
	go func() {
		r.Tree.WaitLeader()
		r.exitSeen.Store(true)
		r.Poller.Wake()
	}()
}

// unwatch has step told of the exit no more.
func (r leader) unwatch() {
	if r.exitFD >= 0 {
		_ = r.Poller.Remove(r.exitFD)
		r.exitFD = -1
	}
}

// exited reports whether the leader has exited, reaped or not.
func (r leader) exited() bool {
	if r.actor != nil {
		return r.exitSeen.Load()
	}
	return r.Tree.LeaderExited()
}

// signal sends it a signal.
func (r leader) signal(sig syscall.Signal) error {
	if r.actor != nil {
		r.actor.program.Signal(sig)
		return nil
	}
	return r.process.Signal(sig)
}
