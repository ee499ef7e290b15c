package testproc

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// settleBound is how long what is on its way out may take to end before it counts as left. Only
// the tests of this package shorten it.
var settleBound = 30 * time.Second

// A baseline is the state of the process that leaks are measured against.
type baseline struct {
	goleak []goleak.Option
	system systemBaseline // children and descriptors
}

// closeIdle is what [Idle] was given.
var closeIdle []func()

// record takes the baseline.
func record(opts ...goleak.Option) *baseline {
	for _, f := range closeIdle {
		f()
	}
	return &baseline{
		goleak: append([]goleak.Option{goleak.IgnoreCurrent()}, opts...),
		system: recordSystem(),
	}
}

// settle looks until nothing is left or the bound is over, and returns what is left.
func (b *baseline) settle() []string {
	end := time.Now().Add(settleBound)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		for _, f := range closeIdle {
			f()
		}
		left := b.system.leaks()
		// goleak itself looks for up to a second.
		if err := goleak.Find(b.goleak...); err != nil {
			left = append(left, fmt.Sprintf("goroutine left: %v", err))
		}
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
		time.Sleep(pause)
	}
}

// killChildren kills the children that are left. They are ours and unreaped, so their PIDs are theirs.
func (b *baseline) killChildren() { b.system.killChildren() }

// NoLeaks fails the test if, when it ends, a goroutine, a child (running or zombie) or a descriptor is
// left that was not there when NoLeaks was called. Call it first, so that it looks after all other
// cleanups. It is not for a test that runs in parallel with others. Children left are killed.
func NoLeaks(t testing.TB, opts ...goleak.Option) {
	t.Helper()
	warmPoller()
	base := record(opts...)
	t.Cleanup(func() {
		for _, leak := range base.settle() {
			t.Error(leak)
		}
		base.killChildren()
	})
}
