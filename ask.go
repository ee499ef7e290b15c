package safeexec

// ask has the goroutine of the run call f, and waits for that. It reports false if the run has come to its end: f was
// not called and will not be.
func (p *Process) ask(f func()) bool {
	answered := make(chan struct{})
	if !p.run.questions.Put(func() { defer close(answered); f() }) {
		return false
	}
	p.run.Poller.Wake()
	select {
	case <-answered:
		return true
	case <-p.done:
	}
	select {
	case <-answered:
		return true
	default:
		return false
	}
}
