//go:build linux

package safeexec_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func init() {
	testproc.Roles["interrupted"] = interrupted
}

// TestSignalsThatBelongTogether has signals come as a terminal and a supervisor send them.
func TestSignalsThatBelongTogether(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		at       []time.Duration // when signals come
		requests int
	}{
		{"none", nil, 0},
		{"one", []time.Duration{0}, 1},
		{"passed on by a parent", []time.Duration{0, time.Millisecond, 499 * time.Millisecond}, 1},
		{"a second", []time.Duration{0, time.Millisecond, 501 * time.Millisecond}, 2},
		{"a second, passed on as well", []time.Duration{0, 501 * time.Millisecond, 502 * time.Millisecond}, 2},
		{"a third", []time.Duration{0, 501 * time.Millisecond, 1002 * time.Millisecond}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals := make(chan os.Signal, 1)
				var released atomic.Bool
				ctx, stop := safeexec.Notify(context.Background(), signals, func() { released.Store(true) })
				begun := time.Now()
				for _, at := range c.at {
					time.Sleep(at - time.Since(begun))
					select {
					case signals <- syscall.SIGINT:
					default:
						t.Error("nobody takes it")
					}
					synctest.Wait()
					if released.Load() { // the third has its usual effect
						break
					}
				}
				assert.Equal(t, c.requests > 0, ctx.Err() != nil)
				if c.requests > 0 {
					assert.EqualError(t, context.Cause(ctx), "interrupt signal received")
				}
				assert.Equal(t, c.requests > 1, safeexec.Forced(ctx))
				assert.Equal(t, c.requests > 2, released.Load())
				stop()
				stop()
				assert.ErrorIs(t, ctx.Err(), context.Canceled)
				assert.True(t, released.Load())
			})
		})
	}
}

func TestNotifyContextOfANotifyContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outer, inner := make(chan os.Signal, 1), make(chan os.Signal, 1)
		ctx, stop := safeexec.Notify(context.Background(), outer, func() {})
		defer stop()
		below, leave := safeexec.Notify(ctx, inner, func() {})
		leave()
		outer <- syscall.SIGTERM
		time.Sleep(time.Second)
		outer <- syscall.SIGTERM
		synctest.Wait()
		assert.True(t, safeexec.Forced(below), "the outer's second signal is for what is below as well")
	})
}

// interrupted runs a command that does not want to end, until signals end it.
func interrupted([]string) int {
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	cmd := exec.Command("sh", "-c", testrun.Stubborn)
	cmd.Stdout = os.Stdout
	res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded))
	fmt.Println(res.Cause, res.Signal)
	fmt.Println(err)
	return 0
}

func TestNotifyContext(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		first, second syscall.Signal
	}{
		{"interrupt", syscall.SIGINT, syscall.SIGINT},
		{"hangup, then a supervisor", syscall.SIGHUP, syscall.SIGTERM},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, w, err := os.Pipe()
			require.NoError(t, err)
			defer out.Close()
			role := testproc.RoleCommand(t, "interrupted")
			role.Stdout = w
			require.NoError(t, role.Start())
			w.Close()
			require.Equal(t, "ready", testproc.ReadLine(t, out))
			require.NoError(t, role.Process.Signal(c.first))
			require.Equal(t, "told", testproc.ReadLine(t, out))
			ended := make(chan string, 1)
			go func() {
				rest, _ := io.ReadAll(out)
				ended <- string(rest)
			}()
			// A signal that comes too early belongs to the first, and one too many kills the role.
			for wait := oneRequest; ; wait = 10 * oneRequest {
				select {
				case rest := <-ended:
					assert.Contains(t, rest, "canceled killed\n")
					assert.Contains(t, rest, c.first.String()+" signal received")
					require.NoError(t, role.Wait())
					return
				case <-time.After(wait):
					require.NoError(t, role.Process.Signal(c.second))
				}
			}
		})
	}
}

// oneRequest is longer than signals belong together.
const oneRequest = 600 * time.Millisecond

func TestNotifyContextLeavesWhatIsIgnored(t *testing.T) {
	t.Parallel()
	testproc.HasProgram(t, "nohup")
	out, w, err := os.Pipe()
	require.NoError(t, err)
	defer out.Close()
	role := testproc.RoleCommand(t, "interrupted")
	role.Args = append([]string{"nohup", role.Path}, role.Args[1:]...)
	role.Path, err = exec.LookPath("nohup")
	require.NoError(t, err)
	role.Stdout = w
	require.NoError(t, role.Start())
	w.Close()
	require.Equal(t, "ready", testproc.ReadLine(t, out))
	require.NoError(t, role.Process.Signal(syscall.SIGHUP))
	require.NoError(t, role.Process.Signal(syscall.SIGTERM))
	require.Equal(t, "told", testproc.ReadLine(t, out))
	time.Sleep(oneRequest)
	require.NoError(t, role.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(out)
	require.NoError(t, err)
	assert.Contains(t, string(rest), "terminated signal received", "and not a hangup")
	require.NoError(t, role.Wait())
}
