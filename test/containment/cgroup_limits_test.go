//go:build linux

package containment_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestLimitsNeedControllers(t *testing.T) {
	parent := cgroupParent(t)
	for controller, opt := range map[string]safeexec.Option{
		"memory": safeexec.WithMemoryMax(64 << 20), "pids": safeexec.WithPIDsMax(10), "cpu": safeexec.WithCPUMax(0.5),
	} {
		t.Run(controller, func(t *testing.T) {
			text, err := os.ReadFile(parent + "/cgroup.controllers")
			require.NoError(t, err)
			if slices.Contains(strings.Fields(string(text)), controller) {
				t.Skip("this machine has the controller: see TestCgroupLimits")
			}
			ran := filepath.Join(t.TempDir(), "ran")
			res, err := testrun.Run(t, exec.Command("touch", ran), safeexec.WithCgroupParent(parent), opt)
			require.ErrorIs(t, err, safeexec.ErrContainment)
			containment, ok := errors.AsType[*safeexec.ContainmentError](err)
			require.True(t, ok)
			assert.Equal(t, controller, containment.Controller)
			assert.Equal(t, parent, containment.Cgroup)
			assert.ErrorContains(t, err, controller)
			assert.Equal(t, safeexec.CauseStartFailed, res.Cause)
			assert.NoFileExists(t, ran)
		})
	}
}

// TestCgroupLimits needs the controllers, and a parent without processes.
func TestCgroupLimits(t *testing.T) {
	parent := cgroupParent(t)
	needs := func(t *testing.T, controller string) {
		t.Helper()
		text, err := os.ReadFile(parent + "/cgroup.controllers")
		require.NoError(t, err)
		if !slices.Contains(strings.Fields(string(text)), controller) {
			t.Skipf("needs the controller %s, not used by cgroup v1: run where it is delegated", controller)
		}
	}
	t.Run("memory", func(t *testing.T) {
		needs(t, "memory")
		testproc.HasProgram(t, "python3")
		res, err := testrun.Run(t, exec.Command(testproc.HasProgram(t, "python3"), "-S", "-c", `import os
if os.fork(): os.wait()
else: b = bytearray(256 << 20)`), safeexec.WithCgroupParent(parent), safeexec.WithMemoryMax(64<<20))
		require.ErrorIs(t, err, safeexec.ErrOOMKilled)
		exit, ok := errors.AsType[*exec.ExitError](err)
		require.True(t, ok)
		assert.Equal(t, -1, exit.ExitCode(), "killed with the one that took the memory")
		assert.True(t, res.OOMKilled)
		assert.Equal(t, syscall.SIGKILL, res.Signal)
		assert.Equal(t, safeexec.SignalerOther, res.SignaledBy)
	})
	t.Run("pids", func(t *testing.T) {
		needs(t, "pids")
		res, err := testrun.Run(t, exec.Command("sh", "-c", "sleep 600 & sleep 600 & sleep 600 & sleep 600 & echo no"),
			safeexec.WithCgroupParent(parent), safeexec.WithPIDsMax(3))
		require.Error(t, err, "a fork fails")
		assert.NotContains(t, res.Stdout.String(), "no")
		assert.False(t, res.OOMKilled)
	})
	t.Run("cpu", func(t *testing.T) {
		needs(t, "cpu")
		res, err := testrun.Run(t, exec.Command("sh", "-c", "while :; do :; done"), safeexec.WithCgroupParent(parent),
			safeexec.WithCPUMax(0.1), safeexec.WithTimeout(2*time.Second))
		require.ErrorIs(t, err, safeexec.ErrTimeout)
		assert.Less(t, res.State.SystemTime()+res.State.UserTime(), time.Second)
	})
}
