package otelsafeexec_test

import (
	"io"
	"log/slog"
	"os/exec"
	"testing"
	"time"

	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/seed841d8200/safeexec"
	otelsafeexec "github.com/seed841d8200/safeexec/adapters/otel"
)

// BenchmarkRun shows what each way to observe a run costs beside none.
func BenchmarkRun(b *testing.B) {
	spans := otelsafeexec.New(
		sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter())), propagation.TraceContext{})
	metrics, err := otelsafeexec.NewMetrics(
		sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())), "true")
	if err != nil {
		b.Fatal(err)
	}
	logger := safeexec.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))
	for _, way := range []struct {
		name string
		opts []safeexec.Option
	}{
		{"none", nil},
		{"logger", []safeexec.Option{logger}},
		{"spans", []safeexec.Option{safeexec.WithObserver(spans)}},
		{"metrics", []safeexec.Option{safeexec.WithObserver(metrics)}},
		{"all", []safeexec.Option{logger, safeexec.WithObserver(spans), safeexec.WithObserver(metrics)}},
	} {
		b.Run("observed="+way.name, func(b *testing.B) {
			b.ReportAllocs()
			opts := append(way.opts, safeexec.WithTimeout(time.Minute))
			for b.Loop() {
				if _, err := safeexec.Run(b.Context(), exec.Command("/bin/true"), opts...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
