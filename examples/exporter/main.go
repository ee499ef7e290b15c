// Exporter runs a command at intervals and serves the number that it prints to Prometheus.
//
//	exporter [-addr 127.0.0.1:9200] [-every 30s] [-timeout 20s] COMMAND [ARG...]
//
// One command runs at a time, whatever the scrapes do: a scrape reads the last good value and never
// waits. A command that hangs is ended with its children after the timeout, and what it was blocked in is
// logged. Alert on the age of the value:
//
//	time() - exporter_success_timestamp_seconds > 120
//
// SIGTERM and SIGINT end the command and the program. To make it yours, change parse, which reads the
// output, and the name and help of the value.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed841d8200/safeexec"
)

var (
	value = prometheus.NewGaugeVec(prometheus.GaugeOpts{ // a vector, which has no value until there is one
		Name: "exporter_value", Help: "What the command printed when it last succeeded.",
	}, nil)
	succeeded = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "exporter_success_timestamp_seconds", Help: "When the command last succeeded.",
	})
	failures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "exporter_failures_total", Help: "Commands that failed, by why.",
	}, []string{"cause"})
)

func main() {
	addr := flag.String("addr", "127.0.0.1:9200", "`address` of the metrics")
	every := flag.Duration("every", 30*time.Second, "`time` between the beginnings of two commands")
	timeout := flag.Duration("timeout", 20*time.Second, "`time` that a command may take")
	flag.Parse()
	if flag.NArg() == 0 || *every <= 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*addr, *every, *timeout); err != nil {
		slog.Error("exporter", "err", err)
		os.Exit(1)
	}
}

func run(addr string, every, timeout time.Duration) error {
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	registry := prometheus.NewRegistry()
	registry.MustRegister(value, succeeded, failures)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	slog.Info("listening", "addr", l.Addr().String())
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	defer func() { _ = server.Close() }()

	tick := time.NewTicker(every) // it drops the ticks that come while a command runs
	defer tick.Stop()
	for {
		once(ctx, timeout)
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// once runs the command, and keeps the value if there is one.
func once(ctx context.Context, timeout time.Duration) {
	cmd := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	res, err := safeexec.Run(ctx, cmd, safeexec.WithTimeout(timeout), safeexec.WithOutputLimit(1<<16))
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		v, e := parse(res.Stdout.String())
		if e == nil {
			value.WithLabelValues().Set(v)
			succeeded.SetToCurrentTime()
			return
		}
		failures.WithLabelValues("output").Inc()
		slog.Warn("the output cannot be read", "err", e)
		return
	}
	failures.WithLabelValues(res.Cause.String()).Inc()
	attrs := []any{"err", err, "stderr", string(res.Stderr.Tail())}
	if errors.Is(err, safeexec.ErrTimeout) && res.Report != nil {
		attrs = append(attrs, "stuck", res.Report.Verdict)
	}
	slog.Warn(res.Describe(err), attrs...)
}

func parse(out string) (float64, error) { return strconv.ParseFloat(strings.TrimSpace(out), 64) }
