package otelsafeexec

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/seed841d8200/safeexec"
)

// Other is the process.executable.name of a program that was not given to [NewMetrics].
const Other = "_OTHER"

// Metrics is a [safeexec.Observer], for [safeexec.WithObserver], that counts runs. It may observe any number
// of runs at the same time. The semantic conventions have no metrics of commands; those of safeexec are
//
//	safeexec.runs                  counter of runs that ended; error.type if one failed, as in its span
//	safeexec.run.duration          histogram in seconds, from the call to the end of the run
//	safeexec.runs.in_progress      runs that have not ended
//	safeexec.start.wait            histogram in seconds, from the call to the start of the command
//	safeexec.output.dropped        counter of bytes neither kept nor delivered; log.iostream
//	safeexec.survivors             counter of processes alive after SIGKILL and its bound
//
// The first four have process.executable.name. Prometheus knows them by the names that they have in
// adapters/prometheus.
type Metrics struct {
	commands map[string]metric.MeasurementOption
	names    map[string]attribute.KeyValue
	stdout   metric.MeasurementOption
	stderr   metric.MeasurementOption

	runs       metric.Int64Counter
	duration   metric.Float64Histogram
	inProgress metric.Int64UpDownCounter
	startWait  metric.Float64Histogram
	dropped    metric.Int64Counter
	survivors  metric.Int64Counter
}

// NewMetrics returns an observer whose instruments come from provider. process.executable.name has the given
// values, each the last element of a program's path, and [Other] for all other programs: an attribute that a
// command line can choose has no bound. The error is the provider's, which refused an instrument.
func NewMetrics(provider metric.MeterProvider, commands ...string) (*Metrics, error) {
	m := &Metrics{
		commands: make(map[string]metric.MeasurementOption, len(commands)+1),
		names:    make(map[string]attribute.KeyValue, len(commands)+1),
		stdout:   attributes(attribute.String("log.iostream", "stdout")),
		stderr:   attributes(attribute.String("log.iostream", "stderr")),
	}
	for _, c := range slices.Concat(commands, []string{Other}) {
		m.names[c] = attribute.String("process.executable.name", c)
		m.commands[c] = attributes(m.names[c])
	}
	meter := provider.Meter(scope)
	var errs [6]error
	m.runs, errs[0] = meter.Int64Counter("safeexec.runs",
		metric.WithUnit("{run}"), metric.WithDescription("Runs that ended, by why."))
	m.duration, errs[1] = meter.Float64Histogram("safeexec.run.duration", metric.WithUnit("s"),
		metric.WithDescription("Time from the call to the end of the run."),
		metric.WithExplicitBucketBoundaries(quadrupled(0.005)...))
	m.inProgress, errs[2] = meter.Int64UpDownCounter("safeexec.runs.in_progress",
		metric.WithUnit("{run}"), metric.WithDescription("Runs that have not ended."))
	m.startWait, errs[3] = meter.Float64Histogram("safeexec.start.wait", metric.WithUnit("s"),
		metric.WithDescription("Time from the call to the start of the command."),
		metric.WithExplicitBucketBoundaries(quadrupled(0.0005)...))
	m.dropped, errs[4] = meter.Int64Counter("safeexec.output.dropped",
		metric.WithUnit("By"), metric.WithDescription("Output that was neither kept nor delivered."))
	m.survivors, errs[5] = meter.Int64Counter("safeexec.survivors",
		metric.WithUnit("{process}"), metric.WithDescription("Processes alive after SIGKILL and its bound."))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	return m, nil
}

func attributes(kv ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(kv...))
}

// quadrupled returns ten boundaries, each four times the one before.
func quadrupled(first float64) []float64 {
	bounds := []float64{first}
	for len(bounds) < 10 {
		bounds = append(bounds, 4*bounds[len(bounds)-1])
	}
	return bounds
}

// Observe implements [safeexec.Observer]. What is counted at the end of the run is so with ctx, from which
// the SDK takes its exemplars.
func (m *Metrics) Observe(ctx context.Context, cmd *exec.Cmd) safeexec.Observation {
	name := filepath.Base(cmd.Path)
	command, ok := m.commands[name]
	if !ok {
		name, command = Other, m.commands[Other]
	}
	m.inProgress.Add(ctx, 1, command)
	return safeexec.Observation{Ended: func(res safeexec.Result, err error) {
		m.inProgress.Add(ctx, -1, command)
		ended := command
		if err != nil {
			ended = attributes(m.names[name], attribute.String("error.type", errorType(res)))
		}
		m.runs.Add(ctx, 1, ended)
		m.duration.Record(ctx, res.Times.Total.Seconds(), command)
		if res.PID != 0 {
			m.startWait.Record(ctx, res.Times.Start.Seconds(), command)
		}
		m.dropped.Add(ctx, res.Stdout.Dropped, m.stdout)
		m.dropped.Add(ctx, res.Stderr.Dropped, m.stderr)
		m.survivors.Add(ctx, int64(len(res.Survivors)))
	}}
}
