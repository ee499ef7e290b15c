package group

import (
	"context"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
)

// A command that is submitted again while it waits is refused, and its first job runs all the same.
func TestCommandSubmittedTwice(t *testing.T) {
	for name, key := range map[string]string{"no key": "", "refused key": "k"} {
		t.Run(name, func(t *testing.T) {
			want := safeexec.ErrStarted
			if key != "" {
				want = ErrBusy
			}
			g, err := New(t.Context(), Limit(1), Options(safeexec.WithTimeout(time.Minute)))
			require.NoError(t, err)
			stdin, hold := io.Pipe()
			first := exec.Command("cat")
			first.Stdin = stdin
			g.Go(first)
			cmd := exec.Command("echo", "hello")
			job := g.GoKey(key, cmd)
			assertNotStarted(t, g.GoKey(key, cmd), want)
			require.NoError(t, hold.Close())
			res, err := job.Wait()
			require.NoError(t, err)
			assert.Equal(t, "hello", res.Stdout.String())
			_, err = g.Go(cmd).Wait()
			require.ErrorIs(t, err, safeexec.ErrStarted)
			assert.Empty(t, g.cmds)
			require.NoError(t, g.Shutdown(t.Context()))
		})
	}
}

// The same holds where the second job would be joined to the first.
func TestCommandJoinedToItself(t *testing.T) {
	g, err := New(t.Context(), Limit(1), SameKey(KeyJoin), Options(safeexec.WithTimeout(time.Minute)))
	require.NoError(t, err)
	stdin, hold := io.Pipe()
	first := exec.Command("cat")
	first.Stdin = stdin
	g.Go(first)
	cmd := exec.Command("true")
	job := g.GoKey("k", cmd)
	assert.Same(t, job, g.GoKey("k", cmd))
	require.NoError(t, hold.Close())
	_, err = job.Wait()
	require.NoError(t, err)
	require.NoError(t, g.Shutdown(t.Context()))
}

// TestCommandJoinedElsewhere joins a command that waits under another key: that one is left alone.
func TestCommandJoinedElsewhere(t *testing.T) {
	g, err := New(t.Context(), Limit(1), SameKey(KeyJoin), Options(safeexec.WithTimeout(time.Minute)))
	require.NoError(t, err)
	stdin, hold := io.Pipe()
	first := exec.Command("cat")
	first.Stdin = stdin
	runs := g.GoKey("a", first)
	cmd := exec.Command("true")
	waits := g.GoKey("b", cmd)
	assert.Same(t, runs, g.GoKey("a", cmd))
	require.NoError(t, hold.Close())
	_, err = waits.Wait()
	require.NoError(t, err)
	require.NoError(t, g.Shutdown(t.Context()))
}

// A reader of the output of a command that the options refuse sees its end.
func TestPipeOfRefusedStart(t *testing.T) {
	g, err := New(t.Context())
	require.NoError(t, err)
	cmd := exec.Command("true")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	read := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(out)
		read <- err
	}()
	_, err = g.Go(cmd).Wait()
	require.ErrorIs(t, err, safeexec.ErrNoTimeout)
	select {
	case <-read: // nil or os.ErrClosed: the pipe was closed before or under the Read
	case <-time.After(time.Minute):
		t.Fatal("the pipe is still open")
	}
	require.NoError(t, g.Shutdown(t.Context()))
}

// Every job that waits has ended when Shutdown returns, whatever refused it.
func TestShutdownLeavesNoJobPending(t *testing.T) {
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		g := newStage().group(t, ctx, Limit(1))
		jobs := []*Job{}
		for range 2000 {
			jobs = append(jobs, g.Go(command("x")))
		}
		cancel() // refuses them on a goroutine of its own
		for len(g.Waiting()) > 0 {
			runtime.Gosched()
		}
		require.NoError(t, g.Shutdown(t.Context()))
		for _, j := range jobs {
			require.True(t, j.over())
		}
	}
}

// With StopOnError a job that a shutdown ended is not the one that failed.
func TestServeNamesTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage()
		g := s.group(t, t.Context(), StopOnError())
		g.Go(command("x"))
		s.started()
		why := errors.New("supervisor stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(why)
		require.ErrorIs(t, g.Serve(ctx), why)
	})
}
