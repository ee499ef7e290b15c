package main

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// sleepers counts what many commands that do nothing cost their host.
func sleepers(b *bench) error {
	for _, n := range b.sleepers {
		for _, i := range fitting(capture) {
			if i.fits(outside) {
				continue
			}
			name := fmt.Sprintf("commands=%d", n)
			a, err := inChild(request{Kind: "sleepers", Impl: i.name, Commands: n})
			if err != nil {
				b.note("sleepers/%s %s: %v", name, i.name, err)
				continue
			}
			add := func(unit string, v float64, note string) {
				b.report.addValues("sleepers", name, i.name, unit, note, v)
			}
			add("B", float64(a.After.RSS), fmt.Sprintf("RSS; %.1f MiB before, peak %.1f MiB",
				float64(a.Before.RSS)/(1<<20), float64(a.After.Peak)/(1<<20)))
			add("threads", float64(a.After.Threads), "")
			add("goroutines", float64(a.Goroutines), "")
			add("descriptors", float64(a.After.FDs), "")
			add("sec", a.Seconds, "until all sleep")
		}
	}
	return nil
}

// fdsPerCommand is how many descriptors of the host a command may take.
const fdsPerCommand = 8

// sleeperLife bounds a sleeper in seconds, should nobody end it.
const sleeperLife = 300

// measureSleepers starts n commands, wave at a time: a start blocks a thread, and the runtime keeps
// every thread that it ever needed.
func measureSleepers(i impl, n, wave int) (answer, error) {
	raiseLimits(uint64(n*fdsPerCommand + 1000))
	command := sleeper(sleeperLife)
	var a answer
	if _, err := i.run(&job{argv: noop()}); err != nil {
		return a, err
	}
	a.Before = ownMemory()

	if wave <= 0 {
		wave = n
	}
	began := time.Now()
	end := began.Add(4 * time.Minute)
	var wg sync.WaitGroup
	for started := 0; started < n; {
		for range min(wave, n-started) {
			started++
			wg.Go(func() { _, _ = i.run(&job{argv: command}) })
		}
		for a.Commands = asleep(); a.Commands < started; a.Commands = asleep() {
			if time.Now().After(end) {
				return a, fmt.Errorf("%d of %d commands came up", a.Commands, started)
			}
			time.Sleep(time.Duration(min(started, 100)) * time.Millisecond)
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

// raiseLimits asks for as many descriptors and processes as may be needed, of this process alone.
func raiseLimits(n uint64) {
	const nproc = 6 // RLIMIT_NPROC, which package syscall has not
	for _, which := range []int{syscall.RLIMIT_NOFILE, nproc} {
		var l syscall.Rlimit
		if syscall.Getrlimit(which, &l) != nil || l.Cur >= n {
			continue
		}
		want := syscall.Rlimit{Cur: n, Max: max(l.Max, n)}
		if syscall.Setrlimit(which, &want) != nil {
			want = syscall.Rlimit{Cur: l.Max, Max: l.Max}
			_ = syscall.Setrlimit(which, &want)
		}
	}
}

// streamMemory measures how much the host grows while far more passes through than is kept.
func streamMemory(b *bench) error {
	for _, i := range fitting(bounded) {
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
