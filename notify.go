package safeexec

import (
	"context"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// NotifyContext returns a context that the first SIGINT, SIGTERM or SIGHUP cancels. Runs with that context, or one
// that is made from it, are then ended as by any cancellation; the second signal kills them, without what is left
// of their grace period: see [WithForce]. The third has its usual effect, which is that this program dies. stop gives
// the signals back, and cancels the context. The context's cause says which signal came.
//
// What comes within half a second of a signal belongs to it. Ctrl-C reaches each process of the terminal's foreground
// group, and a parent among them, as npm, go run or another supervisor, may pass it on besides: that is no second
// request.
//
// A command gets nothing of Ctrl-C, since it leads a session of its own. If it uses this package itself, it gets
// SIGTERM of this run, and ends its own runs by it. While a command has the terminal, [WithTerminal], Ctrl-C is for
// that command alone. SIGINT and SIGHUP that are ignored, as nohup and a shell's background jobs have it, remain so.
func NotifyContext(parent context.Context) (ctx context.Context, stop context.CancelFunc) {
	wanted := slices.DeleteFunc([]os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP}, signal.Ignored)
	signals := make(chan os.Signal, 1)
	if len(wanted) > 0 { // none would be all
		signal.Notify(signals, wanted...)
	}
	return notify(parent, signals, func() { signal.Stop(signals) })
}

// oneRequest is the time in which signals count as one.
const oneRequest = 500 * time.Millisecond

type forceKey struct{}

// notify is NotifyContext for signals that come from the channel until release is called.
func notify(parent context.Context, signals <-chan os.Signal, release func()) (context.Context, context.CancelFunc) {
	outer, ok := parent.Value(forceKey{}).(context.Context)
	if !ok {
		outer = context.Background()
	}
	force, kill := context.WithCancel(outer)
	ctx, cancel := context.WithCancelCause(context.WithValue(parent, forceKey{}, force))
	quit := make(chan struct{})
	go func() { // ended by stop, or after the second request
		sig, ok := nextRequest(signals, quit)
		if !ok {
			return
		}
		cancel(signalError{sig})
		settled := time.NewTimer(oneRequest)
		defer settled.Stop()
		if !settles(signals, settled.C, quit) {
			return
		}
		if _, ok = nextRequest(signals, quit); !ok {
			return
		}
		kill()
		settled.Reset(oneRequest)
		if settles(signals, settled.C, quit) {
			release()
		}
	}()
	stop := sync.OnceFunc(func() {
		release()
		close(quit)
		cancel(nil)
	})
	return ctx, stop
}

func nextRequest(signals <-chan os.Signal, quit <-chan struct{}) (os.Signal, bool) {
	select {
	case sig := <-signals:
		return sig, true
	case <-quit:
		return nil, false
	}
}

// settles takes the signals that belong to one request. It reports false at quit.
func settles(signals <-chan os.Signal, settled <-chan time.Time, quit <-chan struct{}) bool {
	for {
		select {
		case <-signals:
		case <-settled:
			return true
		case <-quit:
			return false
		}
	}
}

// A signalError is the cause of a context that a signal has canceled.
type signalError struct{ signal os.Signal }

func (e signalError) Error() string { return e.signal.String() + " signal received" }
