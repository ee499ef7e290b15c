package safeexec_test

import (
	"context"
	"math"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/internal/testproc"
	"github.com/seed841d8200/safeexec/internal/testproc/testrun"
)

func TestOptionsAreChecked(t *testing.T) {
	for _, test := range []struct {
		name   string // of the option, "" if it is accepted
		option safeexec.Option
	}{
		{"WithTimeout", safeexec.WithTimeout(0)},
		{"WithTimeout", safeexec.WithTimeout(-1)},
		{"", safeexec.WithTimeout(math.MaxInt64)},
		{"WithGracePeriod", safeexec.WithGracePeriod(-1)},
		{"", safeexec.WithGracePeriod(0)},
		{"", safeexec.WithGracePeriod(math.MaxInt64)},
		{"WithLinger", safeexec.WithLinger(-1)},
		{"", safeexec.WithLinger(0)},
		{"", safeexec.WithLinger(math.MaxInt64)},
		{"WithKillTimeout", safeexec.WithKillTimeout(-1)},
		{"", safeexec.WithKillTimeout(0)},
		{"WithDrainTimeout", safeexec.WithDrainTimeout(-1)},
		{"", safeexec.WithDrainTimeout(0)},
		{"", safeexec.WithDrainTimeout(math.MaxInt64)},
		{"WithIdleTimeout", safeexec.WithIdleTimeout(0)},
		{"WithIdleTimeout", safeexec.WithIdleTimeout(-1)},
		{"", safeexec.WithIdleTimeout(testrun.Bound)},
		{"", safeexec.WithIdleTimeout(math.MaxInt64)},
		{"WithOutputLimit", safeexec.WithOutputLimit(-1)},
		{"WithOutputLimit", safeexec.WithOutputLimit(math.MaxInt64)},
		{"", safeexec.WithOutputLimit(0)},
		{"WithOverflow", safeexec.WithOverflow(-1)},
		{"WithOverflow", safeexec.WithOverflow(17)},
		{"", safeexec.WithOverflow(safeexec.OverflowStop)},
		{"WithTermSignal", safeexec.WithTermSignal(0)},
		{"WithTermSignal", safeexec.WithTermSignal(-1)},
		{"WithTermSignal", safeexec.WithTermSignal(1000)},
		{"WithDiagnosticSignal", safeexec.WithDiagnosticSignal(0, time.Second)},
		{"WithDiagnosticSignal", safeexec.WithDiagnosticSignal(65, time.Second)},
		{"WithDiagnosticSignal", safeexec.WithDiagnosticSignal(syscall.SIGKILL, time.Second)},
		{"WithDiagnosticSignal", safeexec.WithDiagnosticSignal(syscall.SIGQUIT, 0)},
		{"WithDiagnosticSignal", safeexec.WithDiagnosticSignal(syscall.SIGQUIT, -1)},
		{"", safeexec.WithDiagnosticSignal(syscall.SIGQUIT, math.MaxInt64)},
		{"", nil},
		{"", safeexec.Options()},
		{"", safeexec.Options(nil, nil)},
	} {
		cmd := testproc.Command("exit", "0")
		res, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), test.option)
		if test.name == "" {
			assert.NoError(t, err, "%v", test.option)
			assert.True(t, res.Success())
			continue
		}
		var config *safeexec.ConfigError
		if assert.ErrorAs(t, err, &config, "%s: %v", test.name, test.option) {
			assert.Equal(t, test.name, config.Name)
			assert.NotEmpty(t, config.Reason)
		}
		assert.Equal(t, safeexec.CauseStartFailed, res.Cause)
		assert.Nil(t, cmd.Process)
	}
}

func TestIdleTimeoutNeedsAStream(t *testing.T) {
	for _, test := range []struct {
		out, err bool // is an *os.File
		refused  bool
	}{{true, true, true}, {true, false, false}, {false, true, false}, {false, false, false}} {
		cmd := testproc.Command("exit", "0")
		if test.out {
			cmd.Stdout = os.Stdout
		}
		if test.err {
			cmd.Stderr = os.Stderr
		}
		_, err := safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound), safeexec.WithIdleTimeout(testrun.Bound))
		var config *safeexec.ConfigError
		if !test.refused {
			assert.NoError(t, err)
			continue
		}
		if assert.ErrorAs(t, err, &config) {
			assert.Equal(t, "WithIdleTimeout", config.Name)
		}
		_, err = safeexec.Run(context.Background(), cmd, safeexec.WithTimeout(testrun.Bound))
		assert.NoError(t, err, "without it both may be files")
	}
}

func TestTimeoutIsMandatory(t *testing.T) {
	start := func(ctx context.Context, opts ...safeexec.Option) error {
		_, err := safeexec.Run(ctx, testproc.Command("exit", "0"), opts...)
		return err
	}
	ctx := context.Background()
	assert.ErrorIs(t, start(ctx), safeexec.ErrNoTimeout)
	assert.ErrorIs(t, start(ctx, safeexec.WithIdleTimeout(testrun.Bound)), safeexec.ErrNoTimeout, "a chatty command never ends")
	cancelable, cancel := context.WithCancel(ctx)
	defer cancel()
	assert.ErrorIs(t, start(cancelable), safeexec.ErrNoTimeout)
	cmd := exec.CommandContext(ctx, "true")
	limited, cancel := context.WithTimeout(ctx, testrun.Bound)
	defer cancel()
	assert.NoError(t, start(limited))
	assert.NoError(t, start(ctx, safeexec.WithTimeout(testrun.Bound)))
	assert.NoError(t, start(ctx, safeexec.Options(safeexec.WithTimeout(testrun.Bound))))

	p, err := safeexec.Start(ctx, cmd)
	assert.ErrorIs(t, err, safeexec.ErrNoTimeout)
	assert.Nil(t, p)
	assert.Nil(t, cmd.Process)
	_, err = safeexec.Output(ctx, cmd)
	assert.ErrorIs(t, err, safeexec.ErrNoTimeout)
	_, err = safeexec.CombinedOutput(ctx, cmd)
	assert.ErrorIs(t, err, safeexec.ErrNoTimeout)
}

// TestLastOptionWins tells which option was in force by which output is kept.
func TestLastOptionWins(t *testing.T) {
	house := safeexec.Options(safeexec.WithTimeout(-1), safeexec.WithOutputLimit(10), nil,
		safeexec.Options(safeexec.WithOutputLimit(20), safeexec.WithTimeout(testrun.Bound)))
	for _, test := range []struct {
		opts []safeexec.Option
		want int
	}{
		{[]safeexec.Option{house}, 20},
		{[]safeexec.Option{house, safeexec.WithOutputLimit(30)}, 30},
		{[]safeexec.Option{safeexec.WithOutputLimit(30), house}, 20},
		{[]safeexec.Option{house, safeexec.WithOutputLimit(-5), nil, safeexec.WithOutputLimit(40)}, 40},
	} {
		res, err := safeexec.Run(context.Background(), testproc.Command("spew", "100"), test.opts...)
		require.NoError(t, err)
		assert.Len(t, res.Stdout.Bytes(), test.want)
		assert.EqualValues(t, 100-test.want, res.Stdout.Dropped)
	}
}

// TestOptionsAreNotKept runs Output, which adds options of its own, with a slice that has room.
func TestOptionsAreNotKept(t *testing.T) {
	opts := make([]safeexec.Option, 1, 8)
	opts[0] = safeexec.WithTimeout(testrun.Bound)
	_, err := safeexec.CombinedOutput(context.Background(), testproc.Command("exit", "0"), opts...)
	require.NoError(t, err)
	for _, o := range opts[:cap(opts)][1:] {
		assert.Nil(t, o, "the caller's array was written to")
	}
}

func TestDefaults(t *testing.T) {
	assert.Equal(t, 5*time.Second, safeexec.DefaultGracePeriod)
	assert.Equal(t, 100*time.Millisecond, safeexec.DefaultLinger)
	assert.Equal(t, 2*time.Second, safeexec.DefaultKillTimeout)
	assert.Equal(t, 2*time.Second, safeexec.DefaultDrainTimeout)
	assert.Equal(t, 1<<20, safeexec.DefaultOutputLimit)

	res, err := safeexec.Run(context.Background(), testproc.Command("spew", "1048577"), safeexec.WithTimeout(testrun.Bound))
	require.NoError(t, err)
	assert.Len(t, res.Stdout.Bytes(), safeexec.DefaultOutputLimit)
	assert.EqualValues(t, 1, res.Stdout.Dropped)
}

func TestStopBound(t *testing.T) {
	base := safeexec.StopBound()
	assert.Greater(t, base, safeexec.ReportBound+safeexec.DefaultLinger+safeexec.DefaultGracePeriod+
		safeexec.DefaultKillTimeout+safeexec.DefaultDrainTimeout, "looks at processes take time as well")
	assert.Equal(t, base, safeexec.StopBound(nil, safeexec.WithTimeout(time.Hour)), "what comes before the end does not count")
	for _, more := range []safeexec.Option{
		safeexec.WithLinger(safeexec.DefaultLinger + time.Second), safeexec.WithGracePeriod(safeexec.DefaultGracePeriod + time.Second),
		safeexec.WithKillTimeout(safeexec.DefaultKillTimeout + time.Second),
		safeexec.WithDrainTimeout(safeexec.DefaultDrainTimeout + time.Second),
	} {
		assert.Equal(t, base+time.Second, safeexec.StopBound(more))
	}
	diagnostic := safeexec.StopBound(safeexec.WithDiagnosticSignal(syscall.SIGQUIT, time.Second))
	assert.Equal(t, base+time.Second+1500*time.Millisecond, diagnostic, "with its looks")
	assert.Equal(t, base-safeexec.ReportBound, safeexec.StopBound(safeexec.WithoutReport()))
	assert.Equal(t, time.Duration(math.MaxInt64), safeexec.StopBound(safeexec.WithGracePeriod(math.MaxInt64)))
	bound, err := safeexec.Bound(safeexec.WithTimeout(time.Minute))
	require.NoError(t, err)
	assert.Equal(t, time.Minute+base, bound)
}
