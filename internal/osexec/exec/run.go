//go:build !baseline

package exec

import (
	"context"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/seed841d8200/safeexec"
)

// timeout is what safeexec requires and os/exec does not know. All of the tests end long before it;
// .ci/osexec knows the number, and does not take one for passed that only ended when it was up.
const timeout = 10 * time.Second

// running holds what Start returned until Wait asks for it: os/exec's struct has no room for it.
var running sync.Map // *exec.Cmd to *safeexec.Process

// options says in safeexec's words what the fields of the command say in os/exec's. The context
// of a command made by CommandContext is not among them: safeexec is to find it by itself. What a
// Cancel does is not to be seen from outside; where it sends a signal, .ci/osexec says which.
func (c *Cmd) options() []safeexec.Option {
	opts := []safeexec.Option{safeexec.WithTimeout(timeout)}
	if c.WaitDelay > 0 {
		// Nobody holds a pipe once the tree is dead. On a busy machine that can take longer than a test's delay.
		opts = append(opts, safeexec.WithGracePeriod(c.WaitDelay), safeexec.WithDrainTimeout(max(c.WaitDelay, time.Second)))
	} else {
		// To os/exec it means to wait for ever for a Reader that is in Read when the command exits.
		// The slowest of the tests takes 100 ms, as long as safeexec's default: a race, and no answer.
		opts = append(opts, safeexec.WithLinger(time.Second))
	}
	if sig, err := strconv.Atoi(os.Getenv("OSEXEC_TERM_SIGNAL")); err == nil {
		opts = append(opts, safeexec.WithTermSignal(syscall.Signal(sig)))
	}
	return opts
}

// Run is safeexec.Run.
func (c *Cmd) Run() error {
	_, err := safeexec.Run(context.Background(), c.std(), c.options()...)
	return err
}

// Start is safeexec.Start, except for the processes that the tests run: the one of theirs that calls
// Start leaves a process behind, as programs do that never heard of safeexec.
func (c *Cmd) Start() error {
	if helper() {
		return c.std().Start()
	}
	p, err := safeexec.Start(context.Background(), c.std(), c.options()...)
	if err != nil {
		return err
	}
	running.Store(c.std(), p)
	return nil
}

// Wait is Process.Wait. A command that was not started, or was waited for, gets os/exec's answer.
func (c *Cmd) Wait() error {
	p, ok := running.LoadAndDelete(c.std())
	if !ok {
		return c.std().Wait()
	}
	_, err := p.(*safeexec.Process).Wait()
	return err
}

// Output is safeexec.Output.
func (c *Cmd) Output() ([]byte, error) {
	return safeexec.Output(context.Background(), c.std(), c.options()...)
}

// CombinedOutput is safeexec.CombinedOutput.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	return safeexec.CombinedOutput(context.Background(), c.std(), c.options()...)
}

// helper reports whether this process is a command of the tests and not the tests. They set the
// variable to their PID.
func helper() bool {
	pid := os.Getenv("GO_EXEC_TEST_PID")
	return pid != "" && pid != strconv.Itoa(os.Getpid())
}
