package main

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"
)

// A sample is one measurement of an entry: a value for each unit. Each holds further values that go
// into no pair: the latencies of the single runs of a batch.
type sample struct {
	values map[string]float64
	each   []float64
}

// An entry takes part in a race.
type entry struct {
	impl string
	once func() (sample, error)
}

// A lane is what a race measured of one entry: values by unit, one a round.
type lane struct {
	impl   string
	values map[string][]float64
	each   []float64
}

// blockRounds is after how many rounds the garbage is collected, so that nobody pays for another's.
const blockRounds = 20

// race measures the entries n times each, in rounds. In each round all of them run, in an order that
// is drawn, and the next round runs in the reverse order: of two entries, each comes first as often
// as the other, and drift cancels out. One round is not counted: it fills caches.
//
// An entry that fails is left out, with a note. No value is.
func race(note func(format string, args ...any), entries []entry, n int) []lane {
	return rounds(note, entries, -1, n)
}

// rounds is race with the first round at from: those below 0 are not counted.
func rounds(note func(format string, args ...any), entries []entry, from, n int) []lane {
	order := rand.New(rand.NewPCG(1, 2))
	lanes := make([]lane, len(entries))
	failed := make([]bool, len(entries))
	for i, e := range entries {
		lanes[i] = lane{impl: e.impl, values: map[string][]float64{}}
	}
	var perm []int
	for round := from; round < n; round++ {
		if round%blockRounds == 0 || round < 0 {
			runtime.GC()
		}
		if round <= 0 || round%2 == 0 {
			perm = order.Perm(len(entries))
		} else {
			for i, j := 0, len(perm)-1; i < j; i, j = i+1, j-1 {
				perm[i], perm[j] = perm[j], perm[i]
			}
		}
		for _, i := range perm {
			if failed[i] {
				continue
			}
			s, err := entries[i].once()
			if err != nil {
				failed[i] = true
				note("%s is left out: %v", entries[i].impl, err)
				continue
			}
			if round >= 0 {
				lanes[i].add(s)
			}
		}
	}
	var kept []lane
	for i, l := range lanes {
		if !failed[i] {
			kept = append(kept, l)
		}
	}
	return kept
}

func (l *lane) add(s sample) {
	for unit, v := range s.values {
		l.values[unit] = append(l.values[unit], v)
	}
	l.each = append(l.each, s.each...)
}

// twin is the name of the reference's second entry, which shows how much two runs of the same differ.
const (
	twin        = reference + againSuffix
	againSuffix = " (again)"
)

// entries makes one entry of each implementation that can do w, and one more of the reference.
func entries(w work, once func(impl) (sample, error)) []entry {
	var list []entry
	for _, i := range fitting(w) {
		list = append(list, entry{i.name, func() (sample, error) { return once(i) }})
		if i.name == reference {
			list = append(list, entry{twin, list[0].once})
		}
	}
	return list
}

// timed is the plainest measurement: one run.
func timed(i impl, j *job) (outcome, time.Duration, error) {
	began := time.Now()
	out, err := i.run(j)
	return out, time.Since(began), err
}

// wanted fails where output was lost.
func wanted(out outcome, total int64) error {
	if out.total != total {
		return fmt.Errorf("%d bytes of output instead of %d", out.total, total)
	}
	return nil
}
