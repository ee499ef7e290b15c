package engine

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/seed841d8200/safeexec/internal/fdtable"
	"github.com/seed841d8200/safeexec/internal/testproc"
)

// What cannot be had is said before anything is started, and nothing is left of it.
func TestRefused(t *testing.T) {
	script := testproc.WriteProgram(t, 0o755, "#!/no/such/interpreter\n")
	for _, tt := range []struct {
		name    string
		set     func(cmd *exec.Cmd, c *Config)
		want    error // that it is
		config  string
		missing string
		start   bool // it was tried
	}{
		{name: "directory", want: ErrBadDir, set: func(cmd *exec.Cmd, _ *Config) { cmd.Dir = "/no/such/directory" }},
		{name: "program", want: syscall.ENOENT, start: true, set: func(cmd *exec.Cmd, _ *Config) {
			cmd.Path = "/no/such/program"
		}},
		{
			name: "interpreter", want: syscall.ENOENT, start: true, missing: "/no/such/interpreter",
			set: func(cmd *exec.Cmd, _ *Config) { cmd.Path = script },
		},
		{name: "tracer", config: "SysProcAttr", set: func(cmd *exec.Cmd, _ *Config) {
			cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
		}},
		{name: "guard", config: "WithGuard", set: func(_ *exec.Cmd, c *Config) { c.Guard = true }},
		{name: "descriptor", config: "WithFDs", set: func(_ *exec.Cmd, c *Config) { c.FDs = []int{1 << 20} }},
		{name: "places", want: ErrTooManyLeft, set: func(_ *exec.Cmd, c *Config) {
			c.Background = BackgroundLeave
			ok, err := leftPipes.Reserve(MaxLeftPipes - 1)
			assert.True(t, ok, "%v", err)
			t.Cleanup(func() { leftPipes.Free(MaxLeftPipes - 1) })
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd, cfg := exec.Command("true"), patient()
			tt.set(cmd, cfg)
			r, err := tried(t.Context(), cmd, cfg)
			require.Error(t, err)
			var start *StartError
			if assert.Equal(t, tt.start, errors.As(err, &start), "%v", err) && tt.start {
				err = start.Err
			}
			if tt.want != nil {
				require.ErrorIs(t, err, tt.want)
			}
			if tt.config != "" {
				var config *ConfigError
				require.ErrorAs(t, err, &config)
				assert.Equal(t, tt.config, config.Name)
			}
			assert.Equal(t, tt.missing, r.Facts.Missing)
			assert.Zero(t, r.Facts.PID)
			assert.Nil(t, cmd.Process)
			assert.Zero(t, r.Facts.StartRetries)
			assert.Empty(t, runs.calls)
			for i := range r.Streams.Each {
				assert.False(t, r.Streams.Each[i].End.Open())
			}
		})
	}
}

// What a command would inherit undeclared is marked, reported, or a reason to refuse it.
func TestFDPolicies(t *testing.T) {
	null, err := os.Open(os.DevNull)
	require.NoError(t, err)
	defer null.Close()
	for _, policy := range []FDPolicy{FDOff, FDReport, FDRefuse, FDMark} { // the last changes what the others see
		leak, err := unix.FcntlInt(null.Fd(), unix.F_DUPFD, 40)
		require.NoError(t, err)
		cfg := patient()
		cfg.FDPolicy = policy
		r, err := tried(t.Context(), exec.Command("true"), cfg)
		if err == nil {
			r.Supervise()
			r.Conclude()
		}
		has := func(list []fdtable.FD) bool {
			return slices.ContainsFunc(list, func(fd fdtable.FD) bool { return fd.Num == leak })
		}
		// What was marked is named only where there was time to look.
		assert.False(t, policy != FDMark && has(r.Facts.MarkedFDs), policy)
		assert.Equal(t, policy == FDReport || policy == FDRefuse, has(r.Facts.LeakedFDs), policy)
		if policy == FDRefuse {
			var leaked *LeakedFDsError
			require.ErrorAs(t, err, &leaked)
			assert.Equal(t, r.Facts.LeakedFDs, leaked.FDs)
		} else {
			require.NoError(t, err)
		}
		flags, err := unix.FcntlInt(uintptr(leak), unix.F_GETFD, 0)
		require.NoError(t, err)
		assert.Equal(t, policy == FDMark, flags&unix.FD_CLOEXEC != 0, policy)
		require.NoError(t, unix.Close(leak))
	}
}

// busy returns a program that is open for writing, which keeps it from being run until it is closed.
func busy(t *testing.T) (cmd *exec.Cmd, writer *os.File) {
	t.Helper()
	path := testproc.WriteProgram(t, 0o755, "#!/bin/sh\nexit 4\n")
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	t.Cleanup(func() { writer.Close() })
	return exec.Command(path), writer
}

func TestStartIsTriedAgain(t *testing.T) {
	cmd, _ := busy(t)
	r, err := tried(t.Context(), cmd, patient())
	var start *StartError
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, start.Err, syscall.ETXTBSY)
	assert.Empty(t, r.host.retried, "nobody has asked for it")

	cfg := patient()
	cfg.StartRetry = never
	cmd, writer := busy(t)
	again := fresh()
	again.host.onRetry = func() {
		if len(again.host.retried) == 3 {
			writer.Close()
		}
	}
	again.live(t, t.Context(), cmd, cfg)
	f := again.ends(t)
	assert.Equal(t, 4, f.State.ExitCode())
	assert.Equal(t, len(again.host.retried), f.StartRetries)
	assert.GreaterOrEqual(t, f.StartRetries, 3)
	for _, err := range again.host.retried {
		require.ErrorIs(t, err, syscall.ETXTBSY)
	}

	// The run may have to end meanwhile.
	ctx, cancel := context.WithCancel(t.Context())
	cmd, _ = busy(t)
	canceled := fresh()
	canceled.host.onRetry = cancel
	err = canceled.Begin(ctx, cmd, cfg, canceled.host)
	require.ErrorIs(t, err, ErrCause)
	require.ErrorAs(t, err, &start)
	require.ErrorIs(t, start.Err, syscall.ETXTBSY)
	assert.Equal(t, CauseCanceled, canceled.Facts.Cause)
	assert.Equal(t, 1, canceled.Facts.StartRetries)

	// The files of StdoutPipe are closed by a start that fails.
	cmd, _ = busy(t)
	_, err = cmd.StdoutPipe()
	require.NoError(t, err)
	once, err := tried(t.Context(), cmd, cfg)
	require.Error(t, err)
	assert.Empty(t, once.host.retried)
}

// A file system that does not answer holds up the start, and Stop ends that.
func TestStartStalls(t *testing.T) {
	cmd := exec.Command(filepath.Join(testproc.HungMount(t), "program"))
	cmd.Err = nil
	r := fresh()
	refused := make(chan error)
	go func() { refused <- r.Begin(t.Context(), cmd, patient(), r.host) }()
	testproc.Wait(t, func() bool {
		runs.Lock()
		defer runs.Unlock()
		_, listed := runs.calls[r.Run]
		return listed // it has its turn
	})
	r.Stop()
	assert.Equal(t, Errors{ErrCause, ErrStartStalled}, <-refused)
	assert.Equal(t, CauseStopped, r.Facts.Cause)
	assert.Equal(t, []Abandoned{AbandonedStart}, r.Facts.Abandoned)
	assert.Nil(t, cmd.Process)
}
