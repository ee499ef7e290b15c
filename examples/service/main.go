// Service is an HTTP service that runs a command for each request: the log of a git repository, and images made small.
//
//	service [-addr 127.0.0.1:8080] [-admin 127.0.0.1:8081] [-limit 4] [-timeout 10s] REPOSITORY
//
//	GET /log?path=FILE    the last commits that changed a file
//	POST /thumbnail       of the body, a PNG, one of at most 200 by 200 pixels; only where ImageMagick is installed
//
// At most four commands run at a time, and a request that comes then is refused at once, with 503 and
// Retry-After: a queue would only hold requests whose clients have given up. The command of a client that
// goes away is ended, with its children. The other address, for the operator alone, has /metrics for
// Prometheus, /healthz and /debug/pprof.
//
// SIGTERM and SIGINT have it accept nothing more, let the requests end that it has, which takes no longer
// than the timeout and what it takes to end a command, and exit.
//
// To make it yours, change gitLog and thumbnail, which say what is run for a request, and what of the request may
// get into its arguments, and the limit: the memory of the machine by that of a command.
package main

import (
	"context"
	"errors"
	"flag"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed841d8200/safeexec"
	promsafeexec "github.com/seed841d8200/safeexec/adapters/prometheus"
	"github.com/seed841d8200/safeexec/group"
)

const (
	// inputLimit is how long the body of a request may be, in bytes.
	inputLimit = 16 << 20
	// outputLimit is how long an answer may be, in bytes. A command that writes more is ended.
	outputLimit = 1 << 20
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`address` of the service")
	admin := flag.String("admin", "127.0.0.1:8081", "`address` of metrics, health and profiles")
	limit := flag.Int("limit", 4, "how many commands run at a time")
	timeout := flag.Duration("timeout", 10*time.Second, "`time` that a command may take")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log, *addr, *admin, *limit, *timeout); err != nil {
		log.Error("service", "err", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger, addr, admin string, limit int, timeout time.Duration) error {
	signals, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	metrics, registry := promsafeexec.New("git", "convert"), prometheus.NewRegistry()
	if err := registry.Register(metrics); err != nil {
		return err
	}
	// The group is not canceled by the first signal: the requests that are there come to their end.
	g, err := group.New(context.WithoutCancel(signals), group.Limit(limit), group.QueueLimit(0), group.Options(
		safeexec.WithTimeout(timeout),
		safeexec.WithOutputLimit(outputLimit),
		safeexec.WithOverflow(safeexec.OverflowStop),
		safeexec.WithLogger(log),
		safeexec.WithObserver(metrics)))
	if err != nil {
		return err
	}
	api := http.NewServeMux()
	h := &handler{group: g, repository: flag.Arg(0)}
	api.HandleFunc("GET /log", h.gitLog)
	if _, err := exec.LookPath("convert"); err == nil {
		api.HandleFunc("POST /thumbnail", h.thumbnail)
	}
	ops := http.NewServeMux()
	ops.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	ops.HandleFunc("GET /healthz", health)
	ops.HandleFunc("/debug/pprof/", pprof.Index)
	ops.HandleFunc("/debug/pprof/profile", pprof.Profile)

	bound := timeout + g.StopBound() // of a request
	ended := make(chan error, 2)
	var servers []*http.Server
	for _, s := range []struct {
		name, addr string
		h          http.Handler
	}{{"service", addr, api}, {"admin", admin, ops}} {
		l, err := net.Listen("tcp", s.addr)
		if err != nil {
			return err
		}
		log.Info("listening", "as", s.name, "addr", l.Addr().String())
		server := &http.Server{Handler: s.h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
		servers = append(servers, server)
		go func() { ended <- server.Serve(l) }()
	}
	select {
	case err = <-ended:
	case <-signals.Done():
		log.Info("shutting down", "running", len(g.Running()), "within", bound)
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		err = servers[0].Shutdown(ctx)
	}
	err = errors.Join(err, g.Shutdown(context.Background()))
	for _, s := range servers {
		_ = s.Close()
	}
	return err
}

// health fails if a standard stream of this process is closed or can block it: a log without a reader
// stops the service one day.
func health(w http.ResponseWriter, _ *http.Request) {
	if found := safeexec.AuditStdio(); len(found) > 0 {
		w.WriteHeader(http.StatusInternalServerError)
		for _, f := range found {
			_, _ = w.Write([]byte(f.String() + "\n"))
		}
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}

type handler struct {
	group      *group.Group
	repository string
}

// gitLog runs a command that is there no longer than the request. What the client says stands behind --, where it is no
// option.
func (h *handler) gitLog(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Query().Get("path")
	if path == "" || strings.Contains(path, "\x00") {
		http.Error(w, "path is missing", http.StatusBadRequest)
		return
	}
	cmd := exec.CommandContext(r.Context(), "git", "-C", h.repository, "--literal-pathspecs",
		"log", "-n", "20", "--format=%h %s", "--", path)
	h.answer(w, cmd, "text/plain; charset=utf-8")
}

// thumbnail has the command read the body, as one format and no other: ImageMagick has some that read files.
func (h *handler) thumbnail(w http.ResponseWriter, r *http.Request) {
	cmd := exec.CommandContext(r.Context(), "convert", "png:-", "-thumbnail", "200x200", "png:-")
	cmd.Stdin = http.MaxBytesReader(w, r.Body, inputLimit)
	h.answer(w, cmd, "image/png")
}

// answer runs the command, and sends what it writes.
func (h *handler) answer(w http.ResponseWriter, cmd *exec.Cmd, contentType string) {
	res, err := h.group.Go(cmd).Wait()
	_, tooLong := errors.AsType[*http.MaxBytesError](err)
	switch {
	case err == nil:
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(res.Stdout.Bytes())
	case errors.Is(err, group.ErrQueueFull) || errors.Is(err, group.ErrShutdown):
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case errors.Is(err, safeexec.ErrTimeout):
		http.Error(w, "the command took too long", http.StatusGatewayTimeout)
	case tooLong:
		http.Error(w, "the body is too long", http.StatusRequestEntityTooLarge)
	default: // the details are in the log, where the client does not see them
		http.Error(w, "the command failed", http.StatusInternalServerError)
	}
}
