package drain

import (
	"context"
	"testing"

	"github.com/seed841d8200/safeexec/internal/testproc"
)

func TestMain(m *testing.M) { testproc.Main(m) }

// A bell is what notify rings. It remembers one ring, as a poller remembers one wake-up.
type bell struct {
	rung chan struct{}
	ctx  context.Context
}

func newBell(t testing.TB) *bell {
	return &bell{rung: make(chan struct{}, 1), ctx: testproc.Deadline(t)}
}

func (b *bell) ring() {
	select {
	case b.rung <- struct{}{}:
	default:
	}
}

// wait returns at the next ring, or the one before. A ring that never comes fails the test.
func (b *bell) wait(t testing.TB) {
	t.Helper()
	select {
	case <-b.rung:
	case <-b.ctx.Done():
		t.Fatal("a wake-up was lost: the bell did not ring before the test's deadline")
	}
}

// silent fails the test if the bell has rung.
func (b *bell) silent(t testing.TB) {
	t.Helper()
	select {
	case <-b.rung:
		t.Error("woken for nothing")
	default:
	}
}
