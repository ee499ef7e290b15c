// Package promsafeexec counts the runs of safeexec for Prometheus. dashboard.json, beside it, is for Grafana.
package promsafeexec

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed841d8200/safeexec"
)

// Other is the value of the label command for a program that was not given to [New].
const Other = "other"

// Metrics counts runs. It is a [safeexec.Observer], for [safeexec.WithObserver], and a
// [prometheus.Collector], to be registered once. It may observe any number of runs at the same time.
//
// The label cause is "exited" for code 0, "failed" for any other end of the command by itself, and else
// the [safeexec.Cause], with "_" for a space.
type Metrics struct {
	commands map[string]bool

	runs       *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	inProgress *prometheus.GaugeVec
	startWait  *prometheus.HistogramVec
	dropped    *prometheus.CounterVec
	survivors  prometheus.Counter
}

// New returns metrics whose label command has the given values, each the last element of a program's
// path, and [Other] for all other programs: a label that a command line can choose has no bound.
func New(commands ...string) *Metrics {
	m := &Metrics{
		commands: make(map[string]bool, len(commands)),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "safeexec_runs_total", Help: "Runs that ended, by why.",
		}, []string{"command", "cause"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "safeexec_run_duration_seconds", Help: "Time from the call to the end of the run.",
			Buckets: prometheus.ExponentialBuckets(0.005, 4, 10),
		}, []string{"command"}),
		inProgress: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "safeexec_runs_in_progress", Help: "Runs that have not ended.",
		}, []string{"command"}),
		startWait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "safeexec_start_wait_seconds", Help: "Time from the call to the start of the command.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}, []string{"command"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "safeexec_output_dropped_bytes_total", Help: "Output that was neither kept nor delivered.",
		}, []string{"stream"}),
		survivors: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "safeexec_survivors_total", Help: "Processes alive after SIGKILL and its bound.",
		}),
	}
	for _, c := range commands {
		m.commands[c] = true
	}
	return m
}

func (m *Metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.runs, m.duration, m.inProgress, m.startWait, m.dropped, m.survivors}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(descs)
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(metrics chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(metrics)
	}
}

// Observe implements [safeexec.Observer].
func (m *Metrics) Observe(_ context.Context, cmd *exec.Cmd) safeexec.Observation {
	command := filepath.Base(cmd.Path)
	if !m.commands[command] {
		command = Other
	}
	inProgress := m.inProgress.WithLabelValues(command)
	inProgress.Inc()
	return safeexec.Observation{Ended: func(res safeexec.Result, _ error) {
		inProgress.Dec()
		m.runs.WithLabelValues(command, cause(res)).Inc()
		m.duration.WithLabelValues(command).Observe(res.Times.Total.Seconds())
		if res.PID != 0 {
			m.startWait.WithLabelValues(command).Observe(res.Times.Start.Seconds())
		}
		m.dropped.WithLabelValues("stdout").Add(float64(res.Stdout.Dropped))
		m.dropped.WithLabelValues("stderr").Add(float64(res.Stderr.Dropped))
		m.survivors.Add(float64(len(res.Survivors)))
	}}
}

func cause(res safeexec.Result) string {
	if res.Cause == safeexec.CauseExited && !res.Success() {
		return "failed"
	}
	return strings.ReplaceAll(res.Cause.String(), " ", "_")
}
