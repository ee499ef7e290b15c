package safeexec_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

// Each range is checked at its ends. Nothing is started for it.
func TestOptionRanges(t *testing.T) {
	for _, test := range []struct {
		name   string // of the option that is refused, "" if it is accepted
		option safeexec.Option
	}{
		{"WithOutputLimit", safeexec.WithOutputLimit(-1)},
		{"", safeexec.WithOutputLimit(0)},
		{"", safeexec.WithOutputLimit(math.MaxInt / 2)},
		{"WithOutputLimit", safeexec.WithOutputLimit(math.MaxInt/2 + 1)},
		{"WithTermSignal", safeexec.WithTermSignal(0)},
		{"", safeexec.WithTermSignal(1)},
		{"", safeexec.WithTermSignal(64)},
		{"WithTermSignal", safeexec.WithTermSignal(65)},
		{"WithNice", safeexec.WithNice(-21)},
		{"", safeexec.WithNice(-20)},
		{"", safeexec.WithNice(19)},
		{"WithNice", safeexec.WithNice(20)},
		{"WithLimit", safeexec.WithLimit(safeexec.LimitCPU-1, 1)},
		{"", safeexec.WithLimit(safeexec.LimitCPU, 1)},
		{"", safeexec.WithLimit(safeexec.LimitCore, 1)},
		{"WithLimit", safeexec.WithLimit(safeexec.LimitCore+1, 1)},
		{"WithContainment", safeexec.WithContainment(safeexec.ContainmentBest - 1)},
		{"", safeexec.WithContainment(safeexec.ContainmentBest)},
		{"", safeexec.WithContainment(safeexec.ContainmentCgroup)},
		{"WithContainment", safeexec.WithContainment(safeexec.ContainmentCgroup + 1)},
		{"WithCgroupParent", safeexec.WithCgroupParent("relative")},
		{"", safeexec.WithCgroupParent("/absolute")},
		{"WithMemoryMax", safeexec.WithMemoryMax(-1)},
		{"WithMemoryMax", safeexec.WithMemoryMax(0)},
		{"", safeexec.WithMemoryMax(1)},
		{"WithPIDsMax", safeexec.WithPIDsMax(-1)},
		{"WithPIDsMax", safeexec.WithPIDsMax(0)},
		{"", safeexec.WithPIDsMax(1)},
		{"WithCPUMax", safeexec.WithCPUMax(0)},
		{"", safeexec.WithCPUMax(0.01)},
		{"WithBackground", safeexec.Options(safeexec.WithBackground(safeexec.BackgroundLeave),
			safeexec.WithContainment(safeexec.ContainmentExact))},
		{"", safeexec.Options(safeexec.WithBackground(safeexec.BackgroundLeave),
			safeexec.WithContainment(safeexec.ContainmentBest))},
		{"WithIdleTimeout", safeexec.WithIdleTimeout(0)},
		{"", safeexec.WithIdleTimeout(1)},
	} {
		_, err := safeexec.Resolve(test.option)
		if test.name == "" {
			assert.NoError(t, err, "%v", test.option)
			continue
		}
		var config *safeexec.ConfigError
		if assert.ErrorAs(t, err, &config, "%s: %v", test.name, test.option) {
			assert.Equal(t, test.name, config.Name)
		}
	}
}

// What needs a cgroup asks for one.
func TestContainmentIsCompleted(t *testing.T) {
	for want, opts := range map[safeexec.Containment][]safeexec.Option{
		safeexec.ContainmentBest: {safeexec.WithContainment(safeexec.ContainmentBest), safeexec.WithTimeout(1)},
		safeexec.ContainmentExact: {safeexec.WithContainment(safeexec.ContainmentExact),
			safeexec.Options(safeexec.WithContainment(safeexec.ContainmentExact), safeexec.WithCgroupParent("/a"))},
		safeexec.ContainmentCgroup: {safeexec.WithCgroupParent("/a"), safeexec.WithMemoryMax(1), safeexec.WithPIDsMax(1),
			safeexec.WithCPUMax(1), safeexec.Options(safeexec.WithContainment(safeexec.ContainmentExact), safeexec.WithPIDsMax(1))},
	} {
		for i, opt := range opts {
			s, err := safeexec.Resolve(opt)
			require.NoError(t, err)
			assert.Equal(t, want, s.Containment, "%v %d", want, i)
		}
	}
	for c, want := range map[safeexec.Containment]string{
		-1: "Containment(-1)", 0: "best", 1: "exact", 2: "cgroup", 3: "Containment(3)",
	} {
		assert.Equal(t, want, c.String())
	}
}

func TestSettingsInALine(t *testing.T) {
	s, err := safeexec.Resolve()
	require.NoError(t, err)
	assert.Contains(t, s.String(), "timeout of the context, grace ")
	assert.NotContains(t, s.String(), "idle")
	s, err = safeexec.Resolve(safeexec.WithTimeout(time.Minute), safeexec.WithIdleTimeout(time.Second))
	require.NoError(t, err)
	assert.Contains(t, s.String(), "timeout 1m0s, grace ")
	assert.Contains(t, s.String(), ", idle 1s, output limit ")
}

// The bounds after a timeout add up, and not beyond the longest duration.
func TestEndingIsASum(t *testing.T) {
	ending := func(opts ...safeexec.Option) time.Duration {
		t.Helper()
		s, err := safeexec.Resolve(opts...)
		require.NoError(t, err)
		return s.Ending
	}
	short := ending(safeexec.WithGracePeriod(time.Second))
	assert.Equal(t, short+time.Hour, ending(safeexec.WithGracePeriod(time.Second+time.Hour)))
	assert.Equal(t, time.Duration(math.MaxInt64), ending(safeexec.WithGracePeriod(math.MaxInt64)))
	assert.Equal(t, time.Duration(math.MaxInt64), ending(safeexec.WithGracePeriod(math.MaxInt64-short+time.Second)))
	assert.Less(t, ending(safeexec.WithGracePeriod(math.MaxInt64-short)), time.Duration(math.MaxInt64))
}

func TestTracksHas(t *testing.T) {
	both := safeexec.TrackCgroup | safeexec.TrackAdoption
	assert.True(t, both.Has(safeexec.TrackCgroup))
	assert.True(t, both.Has(both))
	assert.False(t, safeexec.TrackCgroup.Has(both), "not all of them")
	assert.False(t, safeexec.TrackCgroup.Has(safeexec.TrackAdoption))
}

func TestContainmentErrorMatches(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", &safeexec.ContainmentError{Err: fs.ErrPermission})
	assert.ErrorIs(t, err, safeexec.ErrContainment)
	assert.ErrorIs(t, err, fs.ErrPermission)
	assert.NotErrorIs(t, err, safeexec.ErrGuard)
}

// An argument is named with its place and size, and the sum of all.
func TestArgumentErrorNamesIt(t *testing.T) {
	for _, test := range []struct {
		args, env []string
		want      safeexec.ArgumentError
	}{
		{[]string{"true", "ab", "\x00", "x\x00"}, []string{"A=1"}, safeexec.ArgumentError{Index: 2, Size: 2, Total: 5 + 3 + 2 + 3 + 4}},
		{[]string{"true"}, []string{"A=1", "B=\x00"}, safeexec.ArgumentError{Env: true, Index: 1, Size: 4, Total: 5 + 4 + 4}},
	} {
		cmd := exec.Command("true")
		cmd.Args, cmd.Env = test.args, test.env
		_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		var arg *safeexec.ArgumentError
		require.ErrorAs(t, err, &arg)
		test.want.Err = syscall.EINVAL
		assert.Equal(t, test.want, *arg)
	}
}

// A program that is not there is named by what there is of its name, and is not worth another try.
func TestErrorNamesTheProgram(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for want, cmd := range map[string]*exec.Cmd{
		"missing": {Path: missing, Args: []string{"other"}},
		"other":   {Args: []string{"dir/other"}},
		"":        {},
	} {
		_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		var failed *safeexec.Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, want, failed.Program)
		assert.ErrorIs(t, err, safeexec.ErrNotFound)
		var interpreter *safeexec.InterpreterError
		assert.False(t, errors.As(err, &interpreter), "the program itself is missing")
		assert.False(t, safeexec.Retryable(err))
	}
	assert.False(t, safeexec.Retryable(nil))
	assert.False(t, safeexec.Retryable(syscall.EAGAIN), "no start of ours")
}

func TestInterpreterErrorMatches(t *testing.T) {
	err := &safeexec.InterpreterError{Path: "/missing", Err: fs.ErrNotExist}
	assert.ErrorIs(t, err, safeexec.ErrNotFound)
	assert.ErrorIs(t, err, exec.ErrNotFound)
	assert.ErrorIs(t, err, fs.ErrNotExist)
	assert.NotErrorIs(t, err, safeexec.ErrNotExecutable)
}
