// Package testrun holds what the tests that run commands by safeexec share. What needs no run is in testproc,
// which the packages below safeexec use as well.
package testrun

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/poll"
	"github.com/seed841d8200/safeexec/internal/sys"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

const (
	// Bound is far more than any test needs. No result depends on it but that it was not reached.
	Bound = time.Minute
	// Unbounded is a timeout that no test is meant to reach: the test's own deadline comes first.
	Unbounded = time.Hour
	// Soon is a timeout that is meant to be hit. A busy machine may take longer for a start: see [Expires].
	Soon = 200 * time.Millisecond
)

// Main is the body of a TestMain, as [testproc.Main] is. Fast paths that are to be forced off are, in helpers and
// roles too.
func Main(m *testing.M, opts ...testproc.Option) {
	testproc.Disable(sys.Disable)
	testproc.Main(m, append(opts, testproc.Warm(Warm), testproc.Idle(poll.CloseIdle))...)
}

// Warm opens what safeexec keeps for the life of the process.
func Warm() {
	res, err := safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(Bound))
	if err != nil {
		fmt.Fprintf(os.Stderr, "warming up: %v, %+v\n", err, res)
	}
}

// Run runs a command that is meant to return within Bound. It is given as long for its output: a machine that stands
// still for the default time to drain may have left an end of a pipe open here.
func Run(t testing.TB, cmd *exec.Cmd, opts ...safeexec.Option) (safeexec.Result, error) {
	t.Helper()
	bounds := []safeexec.Option{safeexec.WithTimeout(Bound), safeexec.WithDrainTimeout(Bound)}
	res, err := safeexec.Run(t.Context(), cmd, append(bounds, opts...)...)
	t.Logf("returned after %v: %v", res.Times.Total.Round(time.Millisecond), err)
	assert.Less(t, res.Times.Total, Bound)
	return res, err
}

// Expires runs a command whose timeout comes once it has started. One that is short from the beginning can come before,
// on a busy machine, and all that there is to look at then is the error.
func Expires(t testing.TB, cmd *exec.Cmd, opts ...safeexec.Option) (safeexec.Result, error) {
	t.Helper()
	p, err := safeexec.Start(t.Context(), cmd, append([]safeexec.Option{safeexec.WithTimeout(Unbounded)}, opts...)...)
	require.NoError(t, err)
	require.NoError(t, p.SetTimeout(time.Millisecond))
	return p.Wait()
}

// Talks runs a command with an idle timeout that is less than it takes, and four times as much as it is silent. It is
// made for how long it is silent each time, in seconds; that is doubled where the machine held it up.
func Talks(
	t testing.TB, command func(pause string) *exec.Cmd, opts ...safeexec.Option,
) (res safeexec.Result, err error) {
	t.Helper()
	for pause := Soon / 2; ; pause *= 2 {
		res, err = Run(t, command(fmt.Sprint(pause.Seconds())), append(opts, safeexec.WithIdleTimeout(4*pause))...)
		if !errors.Is(err, safeexec.ErrIdle) || pause > Bound/16 {
			return res, err
		}
	}
}

// Refused checks that the options are refused, by the name of one, and that nothing is started.
func Refused(t testing.TB, name string, cmd *exec.Cmd, opts ...safeexec.Option) {
	t.Helper()
	_, err := Run(t, cmd, opts...)
	var config *safeexec.ConfigError
	require.ErrorAs(t, err, &config)
	assert.Equal(t, name, config.Name)
	assert.Nil(t, cmd.Process)
}

// started starts a command whose standard output the test reads itself.
func started(t testing.TB, ctx context.Context, cmd *exec.Cmd, opts ...safeexec.Option) (*safeexec.Process, io.Reader) {
	t.Helper()
	out, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { out.Close() })
	cmd.Stdout = w
	p, err := safeexec.Start(ctx, cmd, opts...)
	require.NoError(t, w.Close())
	require.NoError(t, err)
	return p, out
}

// StartReady starts a helper whose standard output the test reads itself, and waits for its ready
// line. The reader goes on with what the helper prints afterwards.
func StartReady(
	t testing.TB, ctx context.Context, cmd *exec.Cmd, opts ...safeexec.Option,
) (*safeexec.Process, []int, io.Reader) {
	t.Helper()
	p, out := started(t, ctx, cmd, opts...)
	t.Cleanup(func() { _, _ = p.Stop() })
	return p, testproc.Ready(t, out), out
}

// Stubborn is a shell that says when it was told to end, and goes on.
const Stubborn = `trap 'echo told' TERM; echo ready; while :; do sleep 0.05; done`

// StartStubborn starts it with a grace period that no test is meant to reach.
func StartStubborn(t testing.TB, ctx context.Context, opts ...safeexec.Option) (*safeexec.Process, io.Reader) {
	t.Helper()
	p, out := started(t, ctx, exec.Command("sh", "-c", Stubborn),
		safeexec.WithTimeout(Unbounded), safeexec.WithGracePeriod(Unbounded), safeexec.Options(opts...))
	t.Cleanup(func() { p.Kill(); _, _ = p.Wait() })
	require.Equal(t, "ready", testproc.ReadLine(t, out))
	return p, out
}

// StartTold starts a shell and waits for its first line.
func StartTold(t testing.TB, cmd *exec.Cmd, opts ...safeexec.Option) (*safeexec.Process, string, io.Reader) {
	t.Helper()
	p, out := started(t, t.Context(), cmd, safeexec.WithTimeout(Unbounded), safeexec.Options(opts...))
	t.Cleanup(func() { p.Kill(); _, _ = p.Wait() })
	return p, testproc.ReadLine(t, out), out
}

// Killed checks that a run was ended by SIGKILL of its own.
func Killed(t testing.TB, res safeexec.Result, cause safeexec.Cause) {
	t.Helper()
	assert.Equal(t, cause, res.Cause)
	assert.Equal(t, syscall.SIGKILL, res.Signal)
	assert.Equal(t, safeexec.SignalerSafeexec, res.SignaledBy)
	assert.Empty(t, res.Survivors)
}

// PIDs returns the numbers of the processes.
func PIDs(list []safeexec.ProcessInfo) []int {
	var pids []int
	for _, p := range list {
		pids = append(pids, p.PID)
	}
	return pids
}
