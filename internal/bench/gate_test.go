package main

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
)

// Gates are what a change must not make worse. Time is no gate: people judge it, on a quiet machine.
const (
	maxAllocs         = 45 // of a no-op with both outputs captured
	threadsBesideCPUs = 20
)

// gate is an error if got is more than most.
func gate(what string, got, most float64) error {
	if !(got <= most) { // also where got is no number
		return fmt.Errorf("%s: %g, and at most %g is allowed", what, got, most)
	}
	return nil
}

// TestAllocs is the gate on allocations. Commands that run beside it would be counted in. A quarter of the runs is free
// of what a busy machine adds, where something is late.
func TestAllocs(t *testing.T) {
	each, command := make([]float64, 200), noop()
	for i := range each {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := named(subject).run(&job{argv: command}); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		each[i] = float64(after.Mallocs - before.Mallocs)
	}
	slices.Sort(each)
	count := each[len(each)/4]
	t.Logf("%g allocations a run, and %g at most", count, each[len(each)-1])
	if err := gate("allocations of a run", count, maxAllocs); err != nil {
		t.Error(err)
	}
}

// TestThreads is the gate on threads: a command that sleeps must not hold one. All are started at
// once, for the runtime keeps every thread that it ever needed: a storm of starts would show.
func TestThreads(t *testing.T) {
	const commands = 300
	a, err := inChild(request{Kind: "sleepers", Impl: subject, Commands: commands})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d threads, %d goroutines, RSS %s", a.After.Threads, a.Goroutines, format(float64(a.After.RSS), "B"))
	if err := gate("threads", float64(a.After.Threads), float64(runtime.GOMAXPROCS(0)+threadsBesideCPUs)); err != nil {
		t.Error(err)
	}
}

// TestGateFails has the gates fail, on numbers and on an implementation that does what they forbid.
func TestGateFails(t *testing.T) {
	if gate("allocations", maxAllocs, maxAllocs) != nil {
		t.Error("the limit itself must pass")
	}
	if gate("allocations", maxAllocs+0.1, maxAllocs) == nil {
		t.Error("a violation passed")
	}
	var zero float64
	if gate("allocations", zero/zero, maxAllocs) == nil {
		t.Error("what is no number passed")
	}
	count, _, err := allocations(*named(reference), noop(), 20)
	if err != nil {
		t.Fatal(err)
	}
	if gate("allocations", count, maxAllocs) == nil {
		t.Errorf("os/exec passed with %g allocations", count)
	}
	a, err := inChild(request{Kind: "sleepers", Impl: reference, Commands: 100})
	if err != nil {
		t.Fatal(err)
	}
	if gate("threads", float64(a.After.Threads), float64(runtime.GOMAXPROCS(0)+threadsBesideCPUs)) == nil {
		t.Errorf("os/exec passed with %d threads", a.After.Threads)
	}
}
