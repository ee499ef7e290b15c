package main

import (
	"fmt"
	"math"
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

// The three blocks of a turn.
const (
	before = "before"
	with   = "with"
	after  = "after"
)

// flat measures the same run before a ballast is taken up, with it, and after it was put down, in
// turns. The slope is what one unit of it costs a run, and the noise floor of the slope is what comes
// out where there was no ballast: after against before.
func flat(b *bench) error {
	command := noop()
	perBlock := max(b.pairs/flatBlocks, 4)
	for _, w := range []ballast{
		{"heap", "GiB", gib(b.heap), b.loadHeap},
		{"descriptors", "10000", float64(b.fds) / 10_000, b.loadDescriptors},
		{"processes", "1000", float64(b.procs) / 1000, b.loadProcesses},
	} {
		found := map[string]map[string][]float64{before: {}, with: {}, after: {}}
		for range flatBlocks {
			flatBlock(b, command, perBlock, found[before])
			unload, err := w.load()
			if err != nil {
				b.note("flat/%s: %v", w.name, err)
				break
			}
			flatBlock(b, command, perBlock, found[with])
			unload()
			flatBlock(b, command, perBlock, found[after])
		}
		for _, i := range fitting(capture | stop | common) {
			off, on, again := found[before][i.name], found[with][i.name], found[after][i.name]
			if len(on) > 0 && len(on) == len(off) && len(on) == len(again) {
				b.addSlope(w, i.name, off, on, again)
			}
		}
	}
	return nil
}

// addSlope adds the times and what comes of them.
func (b *bench) addSlope(w ballast, impl string, off, on, again []float64) {
	name := fmt.Sprintf("%s=%.3g×%s", w.name, w.amount, w.unit)
	b.report.addValues("flat", name+"/ballast="+before, impl, secPerOp, "", off...)
	ratio := medianOf(ratios(on, off))
	b.report.addValues("flat", name+"/ballast="+with, impl, secPerOp, "with/before "+ratio.String(), on...)
	b.report.addValues("flat", name+"/ballast="+after, impl, secPerOp, "", again...)

	slope, floor := slopes(on, off, w.amount), medianOf(slopes(again, off, w.amount))
	b.report.addValues("flat", w.slope(), impl, secPerOp, "", slope...)
	added := &b.report.Rows[len(b.report.Rows)-1]
	added.Floor, added.Verdict = &floor, growth(added.Value, floor)
}

// slope is the name of the case that holds the slopes.
func (w *ballast) slope() string { return "slope=" + w.name + "/per=" + w.unit }

// growth says what a slope can be taken for, as verdict does for a ratio.
func growth(slope, floor interval) string {
	switch {
	case slope.Low <= 0 && slope.High >= 0:
		return "no growth shown"
	case math.Abs(slope.Median) <= max(floor.width(), math.Abs(floor.Median)):
		return withinNoise
	case slope.Median < 0:
		return "shrinks"
	}
	return "grows"
}

func flatBlock(b *bench, command []string, n int, into map[string][]float64) {
	var list []entry
	for _, i := range fitting(capture | stop | common) {
		list = append(list, entry{i.name, func() (sample, error) {
			_, took, err := timed(i, &job{argv: command})
			return sample{values: map[string]float64{secPerOp: took.Seconds()}}, err
		}})
	}
	for _, l := range race(b.note, list, n) {
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
