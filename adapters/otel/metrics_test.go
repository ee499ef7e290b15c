package otelsafeexec_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/seed841d8200/safeexec"
	otelsafeexec "github.com/seed841d8200/safeexec/adapters/otel"
)

// collect returns what the SDK has: each value, and of a histogram the count, by name, unit and attributes.
func collect(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &data))
	values := make(map[string]int64)
	for _, scope := range data.ScopeMetrics {
		assert.Equal(t, "github.com/seed841d8200/safeexec/adapters/otel", scope.Scope.Name)
		for _, m := range scope.Metrics {
			key := func(set attribute.Set) string {
				return fmt.Sprintf("%s %s %s", m.Name, m.Unit, set.Encoded(attribute.DefaultEncoder()))
			}
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					values[key(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					values[key(p.Attributes)] = int64(p.Count) //nolint:gosec // a few
					assert.Positive(t, p.Sum)
					assert.Len(t, p.Bounds, 10)
				}
			default:
				assert.Fail(t, "of no kind that is made", "%s: %T", m.Name, d)
			}
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	observer, err := otelsafeexec.NewMetrics(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), "sh", "program")
	require.NoError(t, err)
	run := func(cmd *exec.Cmd, opts ...safeexec.Option) error {
		opts = append([]safeexec.Option{safeexec.WithTimeout(time.Minute), safeexec.WithObserver(observer)}, opts...)
		_, err := safeexec.Run(t.Context(), cmd, opts...)
		return err
	}
	run(exec.Command("sh", "-c", "printf 0123456789"), safeexec.WithOutputLimit(4))
	run(exec.Command("sh", "-c", "exit 3"))
	run(exec.Command("sh", "-c", "kill -9 $$"))
	started := int64(4)
	if err := run(exec.Command("sh", "-c", "sleep 600"), safeexec.WithTimeout(100*time.Millisecond)); errors.Is(err, safeexec.ErrStartStalled) {
		started-- // a busy machine
	}
	run(exec.Command("/nowhere/program"))
	run(exec.Command("true"))

	p, err := safeexec.Start(t.Context(), exec.Command("sleep", "600"),
		safeexec.WithTimeout(time.Minute), safeexec.WithObserver(observer))
	require.NoError(t, err)
	assert.EqualValues(t, 1, collect(t, reader)["safeexec.runs.in_progress {run} process.executable.name=_OTHER"])
	_, err = p.Stop()
	require.ErrorIs(t, err, safeexec.ErrStopped)

	assert.Equal(t, map[string]int64{
		"safeexec.runs {run} process.executable.name=sh":                              1,
		"safeexec.runs {run} error.type=3,process.executable.name=sh":                 1,
		"safeexec.runs {run} error.type=signal,process.executable.name=sh":            1,
		"safeexec.runs {run} error.type=timeout,process.executable.name=sh":           1,
		"safeexec.runs {run} error.type=start_failed,process.executable.name=program": 1,
		"safeexec.runs {run} process.executable.name=_OTHER":                          1,
		"safeexec.runs {run} error.type=stopped,process.executable.name=_OTHER":       1,
		"safeexec.run.duration s process.executable.name=sh":                          4,
		"safeexec.run.duration s process.executable.name=program":                     1,
		"safeexec.run.duration s process.executable.name=_OTHER":                      2,
		"safeexec.runs.in_progress {run} process.executable.name=sh":                  0,
		"safeexec.runs.in_progress {run} process.executable.name=program":             0,
		"safeexec.runs.in_progress {run} process.executable.name=_OTHER":              0,
		"safeexec.start.wait s process.executable.name=sh":                            started,
		"safeexec.start.wait s process.executable.name=_OTHER":                        2,
		"safeexec.output.dropped By log.iostream=stdout":                              6,
		"safeexec.output.dropped By log.iostream=stderr":                              0,
		"safeexec.survivors {process} ":                                               0,
	}, collect(t, reader))
}

func TestMetricsOfManyRuns(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	observer, err := otelsafeexec.NewMetrics(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), "true")
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 5 {
				_, err := safeexec.Run(t.Context(), exec.Command("true"),
					safeexec.WithTimeout(time.Minute), safeexec.WithObserver(observer))
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	values := collect(t, reader)
	assert.EqualValues(t, 20, values["safeexec.runs {run} process.executable.name=true"])
	assert.EqualValues(t, 20, values["safeexec.run.duration s process.executable.name=true"])
	assert.Zero(t, values["safeexec.runs.in_progress {run} process.executable.name=true"])
}

// A broken provider has no instruments, or one that panics.
type broken struct {
	noop.MeterProvider
	err error
}

func (b broken) Meter(string, ...metric.MeterOption) metric.Meter { return brokenMeter{err: b.err} }

type brokenMeter struct {
	noop.Meter
	err error
}

func (b brokenMeter) Int64UpDownCounter(string, ...metric.Int64UpDownCounterOption) (metric.Int64UpDownCounter, error) {
	return brokenCounter{}, b.err
}

type brokenCounter struct{ noop.Int64UpDownCounter }

func (brokenCounter) Add(_ context.Context, n int64, _ ...metric.AddOption) {
	panic(fmt.Sprint("add ", n))
}

// A run is what it is, whatever the SDK does.
func TestMetricsPanic(t *testing.T) {
	t.Parallel()
	observer, err := otelsafeexec.NewMetrics(broken{})
	require.NoError(t, err)
	res, err := safeexec.Run(t.Context(), exec.Command("sh", "-c", "echo out; exit 3"),
		safeexec.WithTimeout(time.Minute), safeexec.WithObserver(observer))
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	assert.Equal(t, 3, res.ExitCode)
	assert.Equal(t, "out", res.Stdout.String())
	require.Error(t, res.ObserverErr)
	assert.Contains(t, res.ObserverErr.Error(), "add 1")
}

func TestMetricsRefused(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	observer, err := otelsafeexec.NewMetrics(broken{err: refused})
	assert.Nil(t, observer)
	assert.ErrorIs(t, err, refused)
}
