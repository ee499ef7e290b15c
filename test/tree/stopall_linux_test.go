//go:build linux

package tree_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// StopAll is about the whole process, and its tests are not for one with others.
func init() { testproc.Roles["stop-all"] = stopAll }

func stopAll(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := safeexec.StopAll(ctx); err != nil {
		fmt.Println("of none:", err)
		return 1
	}
	told, ended := make(chan struct{}, 16), make(chan struct{}, 16)
	var all sync.WaitGroup
	var mu sync.Mutex
	ends := map[string]int{}
	for i := range 12 {
		started := make(chan struct{})
		all.Go(func() {
			var once sync.Once
			script := "echo ready; exec sleep 600"
			if i%2 == 0 {
				script = testrun.Stubborn
			}
			res, err := safeexec.Run(context.Background(), exec.Command("sh", "-c", script),
				safeexec.WithTimeout(testrun.Unbounded), safeexec.WithGracePeriod(testrun.Unbounded),
				safeexec.WithLines(func(line safeexec.Line) {
					once.Do(func() { close(started) })
					if line.Text == "told" {
						told <- struct{}{}
					}
				}))
			ended <- struct{}{}
			mu.Lock()
			defer mu.Unlock()
			ends[fmt.Sprint(res.Cause, " ", res.Signal, " ", errors.Is(err, safeexec.ErrStopped))]++
		})
		<-started
	}
	done := make(chan error, 2)
	go func() { done <- safeexec.StopAll(ctx) }()
	go func() { done <- safeexec.StopAll(context.Background()) }() // a second one waits for the same
	for range 6 {
		<-told
		<-ended // of the others, before anything is killed
	}
	// What begins later is not touched.
	if _, err := safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound)); err != nil {
		fmt.Println("later:", err)
		return 1
	}
	select {
	case <-done:
		fmt.Println("it did not wait")
		return 1
	default:
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			fmt.Println(err)
			return 1
		}
	}
	all.Wait()
	if len(ends) != 2 || ends["stopped killed true"] != 6 || ends["stopped terminated true"] != 6 {
		fmt.Println(ends)
		return 1
	}
	// In a storm each run either ran or was stopped, and no call waits for ever.
	for range 8 {
		all.Go(func() {
			for range 20 {
				_, err := safeexec.Run(context.Background(), exec.Command("true"), safeexec.WithTimeout(testrun.Bound))
				if err != nil && !errors.Is(err, safeexec.ErrStopped) {
					fmt.Println("in a storm:", err)
				}
			}
		})
		all.Go(func() {
			for range 20 {
				if err := safeexec.StopAll(context.Background()); err != nil {
					fmt.Println("in a storm:", err)
				}
			}
		})
	}
	all.Wait()
	return 0
}

func TestStopAll(t *testing.T) {
	t.Parallel()
	out, err := testproc.RoleCommand(t, "stop-all").Output()
	require.NoError(t, err, "%s", out)
	assert.Empty(t, out)
	var config *safeexec.ConfigError
	var none context.Context
	require.ErrorAs(t, safeexec.StopAll(none), &config)
}

func TestSignalTree(t *testing.T) {
	t.Parallel()
	t.Run("reaches everybody", func(t *testing.T) {
		t.Parallel()
		const script = `trap 'echo outer' HUP; setsid sh -c 'trap "echo inner" HUP; echo ready; while :; do sleep 0.05; done' &
			while :; do sleep 0.05; done`
		testproc.HasProgram(t, "setsid")
		p, ready, out := testrun.StartTold(t, exec.Command("sh", "-c", script))
		require.Equal(t, "ready", ready)
		require.NoError(t, p.SignalTree(syscall.SIGHUP))
		assert.ElementsMatch(t, []string{"outer", "inner"}, []string{testproc.ReadLine(t, out), testproc.ReadLine(t, out)})
		res, err := p.Stop()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.Equal(t, syscall.SIGTERM, res.Signal)
	})
	t.Run("pauses", func(t *testing.T) {
		t.Parallel()
		p, pids, _ := testrun.StartReady(t, t.Context(), testproc.Command("fork", "2"), safeexec.WithTimeout(testrun.Unbounded))
		require.NoError(t, p.SignalTree(syscall.SIGSTOP))
		for _, pid := range pids {
			testproc.WaitState(t, pid, "T")
		}
		require.NoError(t, p.SignalTree(syscall.SIGCONT))
		for _, pid := range pids {
			testproc.WaitState(t, pid, "SR")
		}
	})
	t.Run("is the caller's", func(t *testing.T) {
		t.Parallel()
		p, _, _ := testrun.StartReady(t, t.Context(), testproc.Command("fork", "2"), safeexec.WithTimeout(testrun.Unbounded))
		require.NoError(t, p.SignalTree(syscall.SIGKILL))
		res, err := p.Wait()
		require.Error(t, err)
		assert.Equal(t, safeexec.CauseExited, res.Cause)
		assert.Equal(t, safeexec.SignalerCaller, res.SignaledBy)
		require.ErrorIs(t, p.SignalTree(syscall.SIGHUP), os.ErrProcessDone)
	})
	t.Run("in the grace period", func(t *testing.T) {
		t.Parallel()
		p, out := testrun.StartStubborn(t, t.Context())
		go func() { _, _ = p.Stop() }()
		require.Equal(t, "told", testproc.ReadLine(t, out))
		require.NoError(t, p.SignalTree(syscall.SIGKILL))
		res, err := p.Wait()
		require.ErrorIs(t, err, safeexec.ErrStopped)
		assert.Equal(t, syscall.SIGKILL, res.Signal)
		assert.Equal(t, safeexec.SignalerCaller, res.SignaledBy)
	})
	t.Run("while the background is waited for", func(t *testing.T) {
		t.Parallel()
		p, _, _ := testrun.StartTold(t, exec.Command("sh", "-c", "sleep 600 & echo ready"),
			safeexec.WithBackground(safeexec.BackgroundWait))
		testproc.WaitState(t, p.PID(), "Z")
		require.NoError(t, p.SignalTree(syscall.SIGTERM))
		_, err := p.Wait()
		require.NoError(t, err)
	})
	t.Run("no signal", func(t *testing.T) {
		p, _, _ := testrun.StartReady(t, t.Context(), testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded))
		var config *safeexec.ConfigError
		require.ErrorAs(t, p.SignalTree(0), &config)
		require.ErrorAs(t, p.SignalTree(65), &config)
	})
}

func TestInfo(t *testing.T) {
	t.Parallel()
	p, err := safeexec.Start(t.Context(), testproc.Command("hang"), safeexec.WithTimeout(testrun.Unbounded))
	require.NoError(t, err)
	info := p.Info()
	assert.Equal(t, p.PID(), info.PID)
	assert.NotZero(t, info.StartTicks)
	assert.Len(t, info.BootID, 36)
	assert.Equal(t, info, p.Info())

	other := info
	other.BootID = "11111111-2222-3333-4444-555555555555"
	_, err = safeexec.KillTree(t.Context(), other, safeexec.WithTimeout(testrun.Bound))
	require.ErrorIs(t, err, safeexec.ErrNoProcess, "of another boot")

	res, err := safeexec.KillTree(t.Context(), info, safeexec.WithGracePeriod(testrun.Bound))
	require.NoError(t, err)
	assert.NotEmpty(t, res.Killed)
	_, err = p.Wait()
	require.Error(t, err)
	assert.Equal(t, info, p.Info(), "it is known for good")
}

// retried is an observer of retries.
type retried func()

func (f retried) Observe(context.Context, *exec.Cmd) safeexec.Observation {
	return safeexec.Observation{Retried: func(error) { f() }}
}

func TestWithStartRetry(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(testproc.HasProgram(t, "true"))
	require.NoError(t, err)
	path := testproc.WriteProgram(t, 0o755, "")
	testproc.WriteExecutable(t, path, text, 0o755)
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer writer.Close()

	res, err := testrun.Run(t, exec.Command(path), safeexec.WithStartRetry(0))
	require.ErrorIs(t, err, syscall.ETXTBSY)
	assert.Zero(t, res.StartRetries)
	testrun.Refused(t, "WithStartRetry", exec.Command(path), safeexec.WithStartRetry(-1))

	const retries = 20 // more than the default window has room for
	left := retries
	res, err = testrun.Run(t, exec.Command(path), safeexec.WithStartRetry(testrun.Bound), safeexec.WithObserver(retried(func() {
		if left--; left == 0 {
			writer.Close()
		}
	})))
	require.NoError(t, err)
	assert.GreaterOrEqual(t, res.StartRetries, retries)
}
