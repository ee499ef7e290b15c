package safeexectest

import (
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/seam"
)

// A program plays an outcome.
type program struct {
	outcome Outcome
	record  *record
	t       testing.TB

	mu     sync.Mutex
	signal syscall.Signal // that ended it
	killed chan struct{}  // closed with it
}

func newProgram(o Outcome, r *record, t testing.TB) *program {
	return &program{outcome: o, record: r, t: t, killed: make(chan struct{})}
}

// Live plays the outcome.
func (p *program) Live(stage seam.Stage) seam.End {
	o := &p.outcome
	code := o.ExitCode
	if o.Do != nil {
		code = p.do(stage)
	} else {
		p.untilKilled(func() { p.play(stage) })
	}
	end := o.end
	end.Change = func(r *safeexec.Result) { o.change(r, p.t) }
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.signal != 0:
		end.Status = seam.Signaled(p.signal)
	case o.Signal != 0:
		end.Status = seam.Signaled(o.Signal)
	default:
		end.Status = seam.Exited(code)
	}
	return end
}

func (p *program) play(stage seam.Stage) {
	o := &p.outcome
	read := p.read(stage.In)
	if !o.Hangs && o.Cause == safeexec.CauseNone { // what waits for its end may never get one
		p.await(read)
	}
	write(stage.Out, o.Stdout)
	write(stage.Err, o.Stderr)
	if o.Cause != safeexec.CauseNone {
		stage.End(int(o.Cause))
		p.await(nil)
	}
	if o.Hangs {
		p.await(nil)
	}
	if o.After > 0 {
		timer := time.NewTimer(o.After)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-p.killed:
		}
	}
}

// read reads the standard input, beside the rest, and returns what is closed at its end.
func (p *program) read(in io.Reader) <-chan struct{} {
	done := make(chan struct{})
	if in == nil || p.outcome.IgnoresStdin {
		close(done)
		return done
	}
	go func() { // ends with the run, which closes the other end
		defer close(done)
		_, _ = io.Copy(&p.record.stdin, in)
	}()
	return done
}

// await waits for done, or for a signal that ends the program.
func (p *program) await(done <-chan struct{}) {
	select {
	case <-done:
	case <-p.killed:
	}
}

func write(to io.Writer, text string) {
	if to != nil && text != "" {
		_, _ = io.WriteString(to, text) // a pipe that is closed ends a program no sooner
	}
}

// untilKilled calls f, and leaves it behind where a signal ends the program: it may be at a pipe, which the run
// closes.
func (p *program) untilKilled(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	p.await(done)
}

// do calls the test's own program, and is left behind by it if it is killed and does not return.
func (p *program) do(stage seam.Stage) int {
	call := &p.record.call
	process := Process{
		PID: stage.PID, Args: call.Args, Dir: call.Dir, Env: call.Env, Stdin: strings.NewReader(""),
		Stdout: orDiscard(stage.Out), Stderr: orDiscard(stage.Err), Killed: p.killed,
	}
	if stage.In != nil {
		process.Stdin = io.TeeReader(stage.In, &p.record.stdin)
	}
	code := make(chan int, 1)
	p.untilKilled(func() { code <- p.outcome.Do(process) })
	select {
	case c := <-code:
		return c
	default:
		return 0
	}
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// Signal ends the program, unless it ignores the signal.
func (p *program) Signal(sig syscall.Signal) bool {
	if harmless(sig) || p.outcome.IgnoresTerm && sig != syscall.SIGKILL {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.signal == 0 {
		p.signal = sig
		close(p.killed)
	}
	return true
}

// harmless reports whether a signal ends no program that does not ask for it. They have the same names on all
// systems, and different numbers.
func harmless(sig syscall.Signal) bool {
	switch sig.String() {
	case "continued", "child exited", "window changed", "urgent I/O condition":
		return true
	}
	return false
}

// Report is the outcome's.
func (p *program) Report() any { return p.outcome.Report }
