package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"time"
)

// A ballast is something that a run must not depend on.
type ballast struct {
	name   string
	unit   string  // of amount
	amount float64 // how much of it load makes
	load   func() (unload func(), err error)
}

// flatBlocks is how often each ballast is taken up and put down.
const flatBlocks = 5

// flat measures the same run without and with a ballast, in turns, and what one unit of it costs.
func flat(b *bench) error {
	command := noop()
	perBlock := max(b.pairs/flatBlocks, 4)
	for _, w := range []ballast{
		{"heap", "GiB", gib(b.heap), b.loadHeap},
		{"descriptors", "1000", float64(b.fds) / 1000, b.loadDescriptors},
		{"processes", "1000", float64(b.procs) / 1000, b.loadProcesses},
	} {
		without, with := map[string][]float64{}, map[string][]float64{}
		for range flatBlocks {
			flatBlock(b, command, perBlock, without)
			unload, err := w.load()
			if err != nil {
				b.note("flat/%s: %v", w.name, err)
				break
			}
			flatBlock(b, command, perBlock, with)
			unload()
		}
		for _, i := range fitting(capture | stop) {
			on, off := with[i.name], without[i.name]
			if len(on) == 0 || len(on) != len(off) {
				continue
			}
			ratio, slope := medianOf(ratios(on, off)), medianOf(slopes(on, off, w.amount))
			name := fmt.Sprintf("%s=%.3g×%s", w.name, w.amount, w.unit)
			note := fmt.Sprintf("with/without %.3f [%.3f, %.3f]; %s per %s %s", ratio.Median, ratio.Low, ratio.High,
				format(slope.Median, secPerOp), w.unit, w.name)
			if slope.Low <= 0 && slope.High >= 0 {
				note += ", not different from nothing"
			}
			b.report.addValues("flat", name+"/ballast=without", i.name, secPerOp, "", off...)
			b.report.addValues("flat", name+"/ballast=with", i.name, secPerOp, note, on...)
		}
	}
	return nil
}

func flatBlock(b *bench, command []string, n int, into map[string][]float64) {
	var list []entry
	for _, i := range fitting(capture | stop) {
		list = append(list, entry{i.name, func() (sample, error) {
			_, took, err := timed(i, &job{argv: command})
			return sample{values: map[string]float64{secPerOp: took.Seconds()}}, err
		}})
	}
	for _, l := range race(b.log, list, n) {
		into[l.impl] = append(into[l.impl], l.values[secPerOp]...)
	}
}

func slopes(on, off []float64, amount float64) []float64 {
	s := make([]float64, len(on))
	for i := range on {
		s[i] = (on[i] - off[i]) / amount
	}
	return s
}

// loadHeap makes a live heap of many objects with pointers, as a service has.
func (b *bench) loadHeap() (func(), error) {
	type node struct {
		next *node
		_    [1024 - 8]byte
	}
	var head *node
	for range b.heap / 1024 {
		head = &node{next: head}
	}
	runtime.GC()
	return func() {
		runtime.KeepAlive(head)
		head = nil
		debug.FreeOSMemory()
	}, nil
}

func (b *bench) loadDescriptors() (func(), error) {
	raiseLimits(uint64(b.fds + 1000))
	var files []*os.File
	unload := func() {
		for _, f := range files {
			f.Close()
		}
	}
	for range b.fds {
		f, err := os.Open(os.DevNull)
		if err != nil {
			unload()
			return nil, err
		}
		files = append(files, f)
	}
	return unload, nil
}

func (b *bench) loadProcesses() (func(), error) {
	command := sleeper(sleeperLife)
	var started []*exec.Cmd
	unload := func() {
		for _, c := range started {
			_ = c.Process.Kill()
		}
		for _, c := range started {
			_ = c.Wait()
		}
	}
	for range b.procs {
		c := exec.Command(command[0], command[1:]...)
		if err := c.Start(); err != nil {
			unload()
			return nil, err
		}
		started = append(started, c)
	}
	time.Sleep(100 * time.Millisecond)
	return unload, nil
}
