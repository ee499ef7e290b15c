//go:build linux

package safeexectest

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
)

// nobody is a number that no process has.
const nobody = 1 << 30

func TestFakeKillTree(t *testing.T) {
	t.Parallel()
	worker := safeexec.ProcessInfo{PID: nobody + 1, StartTicks: 7, Name: "worker"}
	stuck := safeexec.Survivor{ProcessInfo: safeexec.ProcessInfo{PID: nobody + 2}, Err: syscall.EPERM}
	fake := new(Fake)
	fake.ExpectKillTree(nobody)
	fake.ExpectKillTree(worker.PID).Return(safeexec.TreeResult{Root: worker, Killed: []safeexec.ProcessInfo{worker}})
	fake.ExpectKillTree(nobody+3).Return(safeexec.TreeResult{}, safeexec.ErrNoProcess).Times(2)
	fake.ExpectKillTree(nobody + 4).Return(safeexec.TreeResult{Survivors: []safeexec.Survivor{stuck}})
	ctx := WithFake(t, t.Context(), fake)

	target := safeexec.ProcessInfo{PID: nobody, StartTicks: 3}
	res, err := safeexec.KillTree(ctx, target, safeexec.WithGracePeriod(time.Minute))
	require.NoError(t, err)
	assert.Equal(t, target, res.Root)
	assert.Equal(t, []safeexec.ProcessInfo{target}, res.Killed)

	res, err = safeexec.KillTree(ctx, safeexec.Holder{ProcessInfo: worker})
	require.NoError(t, err)
	assert.Equal(t, worker, res.Root)

	for range 2 {
		_, err = safeexec.KillTree(ctx, safeexec.OSProcess(&os.Process{Pid: nobody + 3}))
		require.ErrorIs(t, err, safeexec.ErrNoProcess)
		var e *safeexec.Error
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "killtree", e.Op)
		assert.Equal(t, nobody+3, e.PID)
	}

	res, err = safeexec.KillTree(ctx, safeexec.ProcessInfo{PID: nobody + 4})
	require.ErrorIs(t, err, safeexec.ErrSurvivors)
	require.ErrorIs(t, err, syscall.EPERM)
	assert.Equal(t, []safeexec.Survivor{stuck}, res.Survivors)

	calls := fake.Calls()
	require.Len(t, calls, 5)
	assert.Equal(t, target, calls[0].KillTree)
	assert.Nil(t, calls[0].Args)
	assert.Equal(t, time.Minute, calls[0].Settings.GracePeriod)
	assert.Equal(t, worker, calls[1].KillTree)
	assert.Equal(t, safeexec.ProcessInfo{PID: nobody + 3}, calls[2].KillTree)
}

// Options, target and context are checked as ever, before the fake is asked.
func TestFakeKillTreeRefuses(t *testing.T) {
	t.Parallel()
	fake := new(Fake)
	ctx := WithFake(t, t.Context(), fake)
	for _, target := range []safeexec.Target{nil, safeexec.OSProcess(nil)} {
		_, err := safeexec.KillTree(ctx, target)
		var config *safeexec.ConfigError
		assert.ErrorAs(t, err, &config)
	}
	_, err := safeexec.KillTree(ctx, safeexec.ProcessInfo{PID: nobody}, safeexec.WithGracePeriod(-1))
	var config *safeexec.ConfigError
	assert.ErrorAs(t, err, &config)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err = safeexec.KillTree(canceled, safeexec.ProcessInfo{PID: nobody})
	assert.ErrorIs(t, err, safeexec.ErrCanceled)
	assert.Empty(t, fake.Calls())
}

func TestFakeKillTreeUnexpected(t *testing.T) {
	t.Parallel()
	kill := func(ctx context.Context, pid int) error {
		_, err := safeexec.KillTree(ctx, safeexec.ProcessInfo{PID: pid})
		return err
	}
	for name, tt := range map[string]struct {
		ordered bool
		pid     int
		want    string
	}{
		"another process": {false, nobody + 1, "run:      KillTree of process 1073741825\n  expected: tool\n  expected: KillTree of process 1073741824"},
		"out of order":    {true, nobody, "run:      KillTree of process 1073741824\n  expected: tool"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			failures := &recorder{TB: t}
			fake := &Fake{Ordered: tt.ordered}
			fake.Expect("tool")
			fake.ExpectKillTree(nobody)
			err := kill(WithFake(failures, t.Context(), fake), tt.pid)
			var unexpected *UnexpectedError
			require.ErrorAs(t, err, &unexpected)
			require.Len(t, failures.errors, 1)
			assert.Contains(t, failures.errors[0], tt.want)
			assert.Len(t, fake.Calls(), 1)
			assert.Equal(t, []string{"safeexectest: expected and not run: tool",
				"safeexectest: expected and not run: KillTree of process 1073741824"}, failures.end()[1:])
		})
	}

	// A command does not meet the expectation of a KillTree.
	failures := &recorder{TB: t}
	fake := &Fake{Ordered: true}
	fake.ExpectKillTree(nobody)
	fake.Expect("tool")
	ctx := WithFake(failures, t.Context(), fake)
	_, err := safeexec.Run(ctx, exec.Command("tool"), bounded)
	require.Error(t, err)
	require.Len(t, failures.errors, 1)
	assert.Contains(t, failures.errors[0], "run:      tool\n  expected: KillTree of process 1073741824")
	require.NoError(t, kill(ctx, nobody))
	_, err = safeexec.Run(ctx, exec.Command("tool"), bounded)
	require.NoError(t, err)
	require.Len(t, failures.end(), 1)
}
