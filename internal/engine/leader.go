package engine

// A leader is the process of a run that was started.
type leader struct{ *Run }

// watch makes Step see the leader's exit: through its pidfd, or, where that is -1, through a
// goroutine that blocks a thread in waitid until the exit.
func (r leader) watch(pidfd int) {
	if r.actor != nil {
		return // it wakes the poller itself
	}
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
