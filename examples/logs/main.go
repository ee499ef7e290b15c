// Logs runs a command at intervals and tells of each run in three ways: a record in the log, a span, and metrics
// for Prometheus.
//
//	logs [-addr 127.0.0.1:9464] [-every 30s] [-timeout 20s] COMMAND [ARG...]
//
// The log goes to standard error. It says how the command ended and what it wrote, or that it wrote the same again.
// Spans go to standard output, and the command finds its own in TRACEPARENT. The metrics are those of
// adapters/prometheus/dashboard.json.
//
// SIGTERM and SIGINT end the command and the program. To make it yours, put otlptracehttp.New(ctx) in the place
// of stdouttrace.New(), and keep options: they are all that your own calls of Run need.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/seed841d8200/safeexec"
	otelsafeexec "github.com/seed841d8200/safeexec/adapters/otel"
	promsafeexec "github.com/seed841d8200/safeexec/adapters/prometheus"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9464", "`address` of the metrics")
	every := flag.Duration("every", 30*time.Second, "`time` between the beginnings of two commands")
	timeout := flag.Duration("timeout", 20*time.Second, "`time` that a command may take")
	flag.Parse()
	if flag.NArg() == 0 || *every <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	if err := run(*addr, *every, *timeout); err != nil {
		slog.Error("logs", "err", err)
		os.Exit(1)
	}
}

func run(addr string, every, timeout time.Duration) (err error) {
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	exporter, err := stdouttrace.New()
	if err != nil {
		return err
	}
	provider := trace.NewTracerProvider(trace.WithBatcher(exporter))
	defer func() { err = errors.Join(err, provider.Shutdown(context.Background())) }()
	metrics, registry := promsafeexec.New(filepath.Base(flag.Arg(0))), prometheus.NewRegistry()
	registry.MustRegister(metrics)
	options := safeexec.Options(
		safeexec.WithTimeout(timeout),
		safeexec.WithLogger(slog.Default()),
		safeexec.WithObserver(otelsafeexec.New(provider, propagation.TraceContext{})),
		safeexec.WithObserver(metrics))

	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("listening", "addr", l.Addr().String())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	defer func() { _ = server.Close() }()
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	tick := time.NewTicker(every) // it drops the ticks that come while a command runs
	defer tick.Stop()
	for {
		_, _ = safeexec.Run(ctx, safeexec.Command(flag.Arg(0), flag.Args()[1:]...), options) // all of it is told
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
