package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"time"
)

// deadline measures from the end of the context to the return of the run, for trees of sleeping
// processes. The context is canceled once the whole tree stands, so that only its end is measured;
// a deadline takes the same path.
func deadline(b *bench) error {
	for _, n := range b.trees {
		list := entries(stop|stream, func(i impl) (sample, error) { return endTree(i, n) })
		rounds := b.few
		if n >= 1000 {
			rounds = max(rounds/2, 3)
		}
		b.report.addLanes("deadline", fmt.Sprintf("tree=%d", n), raceAdopting(b, list, rounds), secPerOp)
	}
	return nil
}

// raceAdopting is race where commands may leave processes behind.
func raceAdopting(b *bench, list []entry, rounds int) (lanes []lane) {
	_ = adopting(func() error { lanes = race(b.log, list, rounds); return nil })
	return lanes
}

var errNotEnded = errors.New("ended before it was canceled")

func endTree(i impl, n int) (sample, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var canceled time.Time
	ready := readyWriter{f: func() { canceled = time.Now(); cancel() }}
	_, err := i.run(&job{argv: tree(n), ctx: ctx, stdout: &ready})
	took := time.Since(canceled)
	if canceled.IsZero() {
		return sample{}, errors.Join(errNotEnded, err)
	}
	if err == nil {
		return sample{}, errors.New("a run that was canceled says that it succeeded")
	}
	return sample{values: map[string]float64{secPerOp: took.Seconds()}, each: []float64{took.Seconds()}}, nil
}

// readyWriter calls f at the first line.
type readyWriter struct {
	once sync.Once
	f    func()
}

func (w *readyWriter) Write(p []byte) (int, error) {
	if bytes.IndexByte(p, '\n') >= 0 {
		w.once.Do(w.f)
	}
	return len(p), nil
}

// linger is set to this, to measure what comes on top.
const linger = 10 * time.Millisecond

// held measures how late a run returns when something holds the pipe after the exit: the time of the
// run minus the linger. A background process of the same session is ended by safeexec; one that
// left the session is not. os/exec ends neither.
func held(b *bench) error {
	setsid, err := exec.LookPath("setsid")
	if err != nil {
		b.note("no setsid: %v", err)
	}
	for _, c := range []struct{ name, prefix string }{{"holder=background", ""}, {"holder=escaped", setsid}} {
		if c.prefix == "" && c.name != "holder=background" {
			continue
		}
		command := []string{"/bin/sh", "-c", c.prefix + ` "$@" & exit 0`, "held"}
		command = append(command, sleeper(5)...)
		list := entries(stop, func(i impl) (sample, error) {
			_, took, err := timed(i, &job{argv: command, linger: linger})
			late := (took - linger).Seconds()
			return sample{values: map[string]float64{secPerOp: late}, each: []float64{late}}, err
		})
		b.report.addLanes("held", c.name+fmt.Sprintf("/linger=%v", linger), raceAdopting(b, list, max(b.few, b.pairs/10)), secPerOp)
	}
	return nil
}
