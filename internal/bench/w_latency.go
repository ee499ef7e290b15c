package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/seed841d8200/safeexec"
)

// latency races all implementations at a command that does nothing, one and many at once, and at a
// large one.
func latency(b *bench) error {
	command := noop()
	b.report.addLanes("latency", "program=noop/at-once=1", b.withLimit(command, oneAtATime(command), 0, b.pairs), secPerOp, cpuPerOp)
	for _, n := range b.atOnce {
		batches := b.batches
		if n > 100 {
			batches = max(batches/4, 3) // each is many runs
		}
		lanes := race(b.note, manyAtOnce(command, n), batches)
		b.report.addLanes("latency", fmt.Sprintf("program=noop/at-once=%d", n), lanes, secPerOp, cpuPerOp)
	}
	command = large()
	name := "program=" + filepath.Base(command[0]) + "/at-once=1"
	b.report.addLanes("latency", name, b.withLimit(command, oneAtATime(command), -1, max(b.pairs/4, 3)), secPerOp)
	return nil
}

func oneAtATime(argv []string) []entry {
	return entries(capture, func(i impl) (sample, error) {
		used := selfCPU()
		_, took, err := timed(i, &job{argv: argv})
		used = selfCPU() - used
		return sample{
			values: map[string]float64{secPerOp: took.Seconds(), cpuPerOp: used.Seconds()}, each: []float64{took.Seconds()},
		}, err
	})
}

// runsPerBatch is how many runs a batch has at least: of two at once, each does half of them.
const runsPerBatch = 32

// manyAtOnce measures batches: the value is the time of the batch by the number of its runs, what
// a run costs the machine; each is the latency of every run.
func manyAtOnce(argv []string, n int) []entry {
	var list []entry
	for _, e := range entries(capture, func(i impl) (sample, error) { return batch(i, argv, n) }) {
		if i := named(e.impl); i == nil || !i.fits(outside) {
			list = append(list, e)
		}
	}
	return list
}

func batch(i impl, argv []string, n int) (sample, error) {
	perWorker := max(runsPerBatch/n, 1)
	each := make([]float64, n*perWorker)
	errs := make([]error, n)
	var wg sync.WaitGroup
	used, began := selfCPU(), time.Now()
	for w := range n {
		wg.Go(func() {
			for k := range perWorker {
				_, took, err := timed(i, &job{argv: argv})
				if err != nil {
					errs[w] = err
					return
				}
				each[w*perWorker+k] = took.Seconds()
			}
		})
	}
	wg.Wait()
	took := time.Since(began).Seconds()
	used = selfCPU() - used
	for _, err := range errs {
		if err != nil {
			return sample{}, err
		}
	}
	return sample{values: map[string]float64{
		secPerOp: took / float64(len(each)), cpuPerOp: used.Seconds() / float64(len(each)),
	}, each: each}, nil
}

// phases says where the time of one no-op goes, for safeexec and beside it for os/exec.
func phases(b *bench) error {
	command := noop()
	list := []entry{{reference, func() (sample, error) { return osPhases(command) }}}
	for _, i := range fitting(capture | stop) {
		if i.name != reference {
			list = append(list, entry{i.name, func() (sample, error) {
				out, err := i.run(&job{argv: command})
				return safeexecPhases(out.times), err
			}})
		}
	}
	lanes := race(b.note, list, b.pairs)
	for _, phase := range []string{"start", "run", "stop", "drain", "rest", "total"} {
		for _, l := range lanes {
			if values := l.values[phase]; len(values) > 0 {
				b.report.addValues("phases", "program=noop/phase="+phase, l.impl, secPerOp, "", values...)
			}
		}
	}
	return nil
}

func safeexecPhases(t safeexec.Times) sample {
	return sample{values: map[string]float64{
		"start": t.Start.Seconds(), "run": t.Run.Seconds(), "stop": t.Stop.Seconds(), "drain": t.Drain.Seconds(),
		"rest":  (t.Total - t.Start - t.Run - t.Stop - t.Drain).Seconds(),
		"total": t.Total.Seconds(),
	}}
}

// osPhases has two phases only: Wait is run, and all that comes after.
func osPhases(argv []string) (sample, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	began := time.Now()
	cmd := safeCmd(ctx, &job{argv: argv})
	var stdout, stderr counter
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return sample{}, err
	}
	started := time.Now()
	err := cmd.Wait()
	return sample{values: map[string]float64{
		"start": started.Sub(began).Seconds(), "run": time.Since(started).Seconds(), "total": time.Since(began).Seconds(),
	}}, err
}

// allocs counts the allocations of a no-op, alone in the process.
func allocs(b *bench) error {
	command := noop()
	for _, i := range fitting(capture) {
		if i.fits(outside) {
			continue
		}
		count, bytes, err := allocations(i, command, b.pairs)
		if err != nil {
			return fmt.Errorf("%s: %w", i.name, err)
		}
		note := fmt.Sprintf("mean of %d runs", b.pairs)
		b.report.addValues("allocs", "program=noop", i.name, allocsOp, note, count)
		b.report.addValues("allocs", "program=noop", i.name, bytesOp, note, bytes)
	}
	return nil
}

// allocations returns what one of n runs allocates on average, after a few that fill the pools.
func allocations(i impl, argv []string, n int) (count, bytes float64, err error) {
	for range 5 {
		if _, err := i.run(&job{argv: argv}); err != nil {
			return 0, 0, err
		}
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		if _, err := i.run(&job{argv: argv}); err != nil {
			return 0, 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(n), float64(after.TotalAlloc-before.TotalAlloc) / float64(n), nil
}
