package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// sleepers counts what many commands that do nothing cost their host, where so many fit.
func sleepers(b *bench) error {
	crowd, err := newCrowd(b)
	if err != nil {
		return err
	}
	for _, n := range crowd.sizes(b.sleepers) {
		name := fmt.Sprintf("commands=%d", n)
		var list []entry
		for _, e := range entries(capture|common, func(i impl) (sample, error) { return sleepersOf(i, n) }) {
			if crowd.dies(e.impl, n) {
				b.showDeath(name, e.impl, n, 0)
			} else if named(e.impl) == nil || !named(e.impl).fits(outside) {
				list = append(list, e)
			}
		}
		// A fresh process has no caches to fill: each round counts.
		lanes := rounds(b.note, list, 0, min(max(9000/n, 1), 5, b.few))
		b.report.addLanes("sleepers", name, lanes, "B", bytesPerCommand, "threads", "goroutines", "descriptors", "sec", secToEnd)
		for _, l := range lanes {
			b.report.remark("sleepers", name, l.impl, "B", "RSS")
			b.report.remark("sleepers", name, l.impl, bytesPerCommand, "RSS more than before the first")
			b.report.remark("sleepers", name, l.impl, "sec", "until all sleep")
			b.report.remark("sleepers", name, l.impl, secToEnd, "from one cancellation until all have returned")
		}
	}
	return nil
}

// showDeath adds a row that shows what becomes of a host that needs a thread for each command.
func (b *bench) showDeath(name, impl string, commands, threads int) {
	if impl != reference {
		if impl != twin {
			b.report.addNothing("sleepers", name, impl, "threads", "a thread each, as "+reference+": not tried")
		}
		return
	}
	_, err := inChild(request{Kind: "sleepers", Impl: impl, Commands: commands, Threads: threads})
	note := "survived"
	if err != nil {
		note = fmt.Sprintf("the host died: %v", err)
	}
	b.report.addNothing("sleepers", name, impl, "threads", note)
}

func sleepersOf(i impl, n int) (sample, error) {
	a, err := inChild(request{Kind: "sleepers", Impl: i.name, Commands: n})
	s := sample{values: map[string]float64{
		"B":             float64(a.After.RSS),
		bytesPerCommand: float64(a.After.RSS-a.Before.RSS) / float64(n),
		"threads":       float64(a.After.Threads),
		"goroutines":    float64(a.Goroutines),
		"descriptors":   float64(a.After.FDs),
		"sec":           a.Seconds,
	}}
	if a.Ended > 0 {
		s.values[secToEnd] = a.Ended
	}
	return s, err
}

// fdsPerCommand is how many descriptors of the host a command may take.
const fdsPerCommand = 8

// sleeperLife bounds a sleeper in seconds, should nothing end it.
const sleeperLife = 300

// measureSleepers starts n commands at once, with a limit of the Go runtime's threads unless it is 0.
func measureSleepers(i impl, n, threads int) (answer, error) {
	raiseLimits(uint64(n*fdsPerCommand + 1000))
	if threads > 0 {
		debug.SetMaxThreads(threads)
	}
	command := sleeper(sleeperLife)
	var a answer
	if _, err := i.run(&job{argv: noop()}); err != nil {
		return a, err
	}
	a.Before = ownMemory()

	began := time.Now()
	end := began.Add(4 * time.Minute)
	var wg sync.WaitGroup
	failed := make(chan error, n)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range n {
		wg.Go(func() { _, err := i.run(&job{argv: command, ctx: ctx}); failed <- err })
	}
	for a.Commands = asleep(); a.Commands < n; a.Commands = asleep() {
		select {
		case err := <-failed:
			return a, fmt.Errorf("with %d of %d commands: %w", a.Commands, n, err)
		case <-time.After(time.Duration(min(n, 100)) * time.Millisecond):
		}
		if time.Now().After(end) {
			return a, fmt.Errorf("%d of %d commands came up", a.Commands, n)
		}
	}
	a.Seconds = time.Since(began).Seconds()
	runtime.GC() // twice: what the pools hold goes with the second
	runtime.GC()
	time.Sleep(200 * time.Millisecond)
	a.After = ownMemory()
	a.Goroutines = runtime.NumGoroutine()

	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	if i.fits(stop) {
		began = time.Now()
		cancel()
		select {
		case <-over:
			a.Ended = time.Since(began).Seconds()
			return a, nil
		case <-time.After(time.Minute):
		}
	}
	for {
		killSleepers()
		select {
		case <-over:
			return a, nil
		case <-time.After(time.Second):
		}
	}
}

// asleep counts the sleepers: a child that was forked and did not execute yet has another name.
func asleep() int {
	name, n := sleeperName(), 0
	for _, c := range children() {
		if c.name == name && c.state == 'S' {
			n++
		}
	}
	return n
}

// streamMemory measures how much the host grows while far more passes through than is kept.
func streamMemory(b *bench) error {
	for _, i := range fitting(bounded | common) {
		if i.fits(outside) {
			continue
		}
		name := fmt.Sprintf("bytes=%d/kept=1MiB", b.stream)
		a, err := inChild(request{Kind: "stream", Impl: i.name, Bytes: b.stream})
		if err != nil {
			b.note("stream/%s %s: %v", name, i.name, err)
			continue
		}
		b.report.addValues("stream", name, i.name, "B", fmt.Sprintf("peak RSS minus RSS before, %.1f MiB", float64(a.Before.RSS)/(1<<20)),
			float64(a.After.Peak-a.Before.RSS))
		b.report.addValues("stream", name, i.name, secPerGiB, "", a.Seconds/gib(b.stream))
	}
	return nil
}

func measureStream(i impl, bytes int64) (answer, error) {
	var a answer
	if _, err := i.run(&job{argv: emit(1<<20, 64<<10), keep: 1 << 10}); err != nil {
		return a, err
	}
	runtime.GC()
	resetPeak()
	a.Before = ownMemory()
	began := time.Now()
	out, err := i.run(&job{argv: emit(bytes, 64<<10), keep: kept})
	if err != nil {
		return a, err
	}
	a.Seconds = time.Since(began).Seconds()
	a.After = ownMemory()
	return a, wanted(out, bytes)
}
