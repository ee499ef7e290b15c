// Package otelsafeexec makes a span of each run of safeexec, by OpenTelemetry's semantic conventions for
// clients of command line programs, and counts the runs. dashboard.json, beside it, is for Grafana.
package otelsafeexec

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"go.opentelemetry.io/contrib/propagators/envcar"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/seed841d8200/safeexec"
)

const scope = "github.com/seed841d8200/safeexec/adapters/otel"

// Spans is a [safeexec.Observer], for [safeexec.WithObserver], that makes a span of kind CLIENT of each
// run. The span is named after the program and holds process.executable.name, process.pid,
// process.exit.code and, if the run failed, error.type: the exit code, "signal", or the
// [safeexec.Cause] with "_" for a space. It never holds arguments.
type Spans struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// New returns an observer whose spans come from provider. The command finds what propagator injects in
// its environment: TRACEPARENT with [propagation.TraceContext].
func New(provider trace.TracerProvider, propagator propagation.TextMapPropagator) *Spans {
	return &Spans{
		tracer:     provider.Tracer(scope),
		propagator: propagator,
	}
}

// Observe implements [safeexec.Observer].
func (s *Spans) Observe(ctx context.Context, cmd *exec.Cmd) safeexec.Observation {
	name := filepath.Base(cmd.Path)
	ctx, span := s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("process.executable.name", name)))
	var env []string
	s.propagator.Inject(ctx, &envcar.Carrier{SetEnvFunc: func(key, value string) {
		env = append(env, key+"="+value)
	}})
	return safeexec.Observation{Env: env, Ended: func(res safeexec.Result, err error) {
		if res.PID != 0 {
			span.SetAttributes(attribute.Int("process.pid", res.PID))
		}
		if res.ExitCode >= 0 {
			span.SetAttributes(attribute.Int("process.exit.code", res.ExitCode))
		}
		if err != nil {
			span.SetAttributes(attribute.String("error.type", errorType(res)))
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}}
}

func errorType(res safeexec.Result) string {
	switch {
	case res.Cause != safeexec.CauseExited:
		return strings.ReplaceAll(res.Cause.String(), " ", "_")
	case res.Signal != 0:
		return "signal"
	case res.ExitCode > 0:
		return strconv.Itoa(res.ExitCode)
	}
	return "_OTHER" // the command succeeded, its output or its tree did not
}
