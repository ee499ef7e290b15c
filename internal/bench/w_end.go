package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// deadline measures from the end of the context to the return of the run, for trees of sleeping
// processes. The context is canceled when the whole tree has stood for a while, so that only its end is measured;
// a deadline takes the same path, as the first case shows, whose context has one. The second is of a
// command that is not asleep.
func deadline(b *bench) error {
	list := entries(stop|stream, func(i impl) (sample, error) { return endByDeadline(i) })
	b.addEnds("tree=1/end=deadline", raceAdopting(b, list, max(b.few, b.pairs/10)))
	busy := []string{"/bin/sh", "-c", "echo ready; while :; do :; done"}
	list = entries(stop|stream, func(i impl) (sample, error) { return endTree(i, busy) })
	b.addEnds("tree=1/state=running", raceAdopting(b, list, max(b.few, b.pairs/10)))
	for _, n := range b.trees {
		list := entries(stop|stream, func(i impl) (sample, error) { return endTree(i, tree(n)) })
		rounds := max(b.few, 3)
		switch {
		case n < 100:
			rounds = max(b.few, b.pairs/10)
		case n >= 1000:
			rounds = max(b.few/2, 3)
		}
		b.addEnds(fmt.Sprintf("tree=%d", n), raceAdopting(b, list, rounds))
	}
	return nil
}

// addEnds adds the whole times, and below them how much of them safeexec took to say why the tree was
// stuck, and to end it.
func (b *bench) addEnds(name string, lanes []lane) {
	b.report.addLanes("deadline", name, lanes, secPerOp)
	for _, phase := range []string{"report", "stop"} {
		for _, l := range lanes {
			if v := l.values[phase]; len(v) > 0 {
				b.report.addValues("deadline", name+"/phase="+phase, l.impl, secPerOp, "", v...)
			}
		}
	}
}

// raceAdopting is race where commands may leave processes behind. What one has left is gone before the next: a
// safeexec looks at all children of this process, zombies included.
func raceAdopting(b *bench, list []entry, rounds int) []lane {
	for i, e := range list {
		list[i].once = func() (s sample, err error) {
			err = adopting(func() error { s, err = e.once(); return err })
			return s, err
		}
	}
	return race(b.note, list, rounds)
}

var errNotEnded = errors.New("ended before it was canceled")

func endTree(i impl, argv []string) (sample, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var canceled atomic.Pointer[time.Time]
	ready := readyWriter{f: func() {
		time.AfterFunc(standing, func() { at := time.Now(); canceled.Store(&at); cancel() })
	}}
	out, err := i.run(&job{argv: argv, ctx: ctx, stdout: &ready})
	over := time.Now()
	at := canceled.Load()
	if at == nil {
		return sample{}, errors.Join(errNotEnded, err)
	}
	return ended(out, over.Sub(*at), err)
}

// standing is how long a tree stands before its end. Where something is running, as while it comes up,
// a report takes 20 ms to tell how much.
const standing = 50 * time.Millisecond

func endByDeadline(i impl) (sample, error) {
	at := time.Now().Add(standing)
	ctx, cancel := context.WithDeadline(context.Background(), at)
	defer cancel()
	out, err := i.run(&job{argv: sleeper(sleeperLife), ctx: ctx})
	return ended(out, time.Since(at), err)
}

func ended(out outcome, took time.Duration, err error) (sample, error) {
	if err == nil {
		return sample{}, errors.New("a run that was canceled says that it succeeded")
	}
	s := seconds(took)
	if t := out.times; t.Total > 0 {
		s.values["report"], s.values["stop"] = t.Report.Seconds(), t.Stop.Seconds()
	}
	return s, nil
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

// soon is how late a run may return when something holds the pipe.
const soon = time.Millisecond

// held measures how late a run returns when something holds the pipe after the exit: the time from the
// command's last line, which the exit follows, minus the linger. A background process of the same
// session is ended by safeexec; one that left the session is, too. os/exec ends neither.
func held(b *bench) error {
	holders := []struct{ name, prefix string }{{"holder=background", ""}}
	if setsid, err := exec.LookPath("setsid"); err == nil {
		holders = append(holders, struct{ name, prefix string }{"holder=escaped", setsid})
	} else {
		b.note("no setsid: %v", err)
	}
	for _, c := range holders {
		command := []string{"/bin/sh", "-c", c.prefix + ` "$@" & echo last; exit 0`, "held"}
		command = append(command, sleeper(5)...)
		list := entries(stop|stream, func(i impl) (sample, error) { return endHeld(i, command) })
		name := c.name + fmt.Sprintf("/linger=%v", linger)
		lanes := raceAdopting(b, list, max(b.few, b.pairs/5))
		b.report.addLanes("held", name, lanes, secPerOp)
		for _, l := range lanes {
			n := 0
			for _, v := range l.values[secPerOp] {
				if v <= soon.Seconds() {
					n++
				}
			}
			b.report.remark("held", name, l.impl, secPerOp, fmt.Sprintf("%d of %d within %v", n, len(l.values[secPerOp]), soon))
		}
	}
	return nil
}

func endHeld(i impl, command []string) (sample, error) {
	var last time.Time
	ready := readyWriter{f: func() { last = time.Now() }}
	_, err := i.run(&job{argv: command, stdout: &ready, linger: linger})
	if took := time.Since(last); !last.IsZero() {
		return seconds(took - linger), err
	}
	return sample{}, errors.Join(errors.New("the command said nothing"), err)
}
