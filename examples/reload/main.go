// Reload runs a server, and restarts it whenever a file changes.
//
//	reload [-watch DIR] [-every 500ms] [-grace 5s] COMMAND [ARG...]
//
// Before the next one is started, the last one has ended with all of its processes, those as well that
// have left its session: otherwise nothing is started, and reload says what is left. So the port is free,
// and no second watcher of the last round writes into the output of this one. A server that ends by
// itself is started again with the next change.
//
// The files are looked at twice a second. That works on every file system, those of containers and
// networks too, and costs a walk; put another watcher behind changed if your tree is large. To make it
// yours, change ignored, which says what is not looked at.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed841d8200/safeexec"
)

// endless is the timeout of a server: a run has to have one.
const endless = 10 * 365 * 24 * time.Hour

var (
	watch = flag.String("watch", ".", "`directory` whose files are watched")
	every = flag.Duration("every", 500*time.Millisecond, "`time` between two looks")
	grace = flag.Duration("grace", safeexec.DefaultGracePeriod, "`time` between SIGTERM and SIGKILL")
)

func main() {
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := safeexec.NotifyContext(context.Background())
	defer stop()
	for ctx.Err() == nil {
		if err := round(ctx); err != nil {
			slog.Error("not started again", "err", err)
			stop()
			os.Exit(1) //nolint:gocritic // it was called
		}
	}
}

// round runs the server until a file changes or ctx is done. The error says that something of it is left.
func round(ctx context.Context) error {
	was := sum(*watch)
	cmd := exec.Command(flag.Arg(0), flag.Args()[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	p, err := safeexec.Start(ctx, cmd, safeexec.WithTimeout(endless), safeexec.WithGracePeriod(*grace))
	if err != nil {
		slog.Warn("not started", "err", err)
		changed(ctx, was)
		return nil
	}
	slog.Info("started", "pid", p.PID())
	type end struct {
		res safeexec.Result
		err error
	}
	ended := make(chan end, 1)
	go func() {
		res, err := p.Wait()
		ended <- end{res, err}
	}()
	change, cancel := context.WithCancel(ctx)
	defer cancel()
	saw := make(chan struct{})
	go func() {
		defer close(saw)
		changed(change, was)
	}()
	var e end
	select {
	case e = <-ended:
		slog.Info(e.res.Describe(e.err))
		if unproved(e.res, e.err) == nil {
			<-saw
		}
	case <-saw:
		_, _ = p.Stop() // what came of it is what Wait returns
		e = <-ended
		slog.Info(e.res.Describe(nil))
	}
	return unproved(e.res, e.err)
}

// unproved returns the error if processes of the server are left, or may be.
func unproved(res safeexec.Result, err error) error {
	if len(res.Survivors) > 0 || errors.Is(err, safeexec.ErrSurvivors) || errors.Is(err, safeexec.ErrTreeUnseen) {
		return fmt.Errorf("%d processes are left: %w", len(res.Survivors), err)
	}
	return nil
}

// changed returns when the files are no longer as they were, or ctx is done.
func changed(ctx context.Context, was uint64) {
	tick := time.NewTicker(*every)
	defer tick.Stop()
	for ctx.Err() == nil && sum(*watch) == was {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// ignored says what is not looked at: hidden files and those of packages.
func ignored(name string) bool { return strings.HasPrefix(name, ".") || name == "node_modules" }

// sum is a number for the names, sizes and times of the files below dir.
func sum(dir string) uint64 {
	h := fnv.New64a()
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil //nolint:nilerr // it may have been removed meanwhile
		}
		if path != dir && ignored(d.Name()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			_, _ = fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
		}
		return nil
	})
	return h.Sum64()
}
