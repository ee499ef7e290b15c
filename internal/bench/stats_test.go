package main

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestMedianCovers draws from a skewed distribution with a known median: the intervals must hold it
// about as often as they say.
func TestMedianCovers(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	const trials, n, median = 1000, 50, 0.6931471805599453
	covered := 0
	for range trials {
		values := make([]float64, n)
		for i := range values {
			values[i] = rnd.ExpFloat64()
		}
		if m := medianOf(values); m.Low <= median && median <= m.High {
			covered++
		}
	}
	if covered < trials*93/100 || covered == trials {
		t.Errorf("%d of %d intervals hold the median", covered, trials)
	}
}

func TestMedianOfFew(t *testing.T) {
	if m := medianOf([]float64{3, 1, 2}); m != (interval{2, 1, 3}) {
		t.Errorf("%+v: the extremes are all that three values can say", m)
	}
	if m := medianOf(nil); m.Median == m.Median {
		t.Errorf("%+v of nothing", m)
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.5: 3, 0.8: 4, 0.99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
}

func TestVerdict(t *testing.T) {
	floor := interval{1.01, 0.98, 1.03}
	for _, tt := range []struct {
		ratio interval
		want  string
	}{
		{interval{0.80, 0.75, 0.85}, "less"},
		{interval{1.20, 1.15, 1.30}, "more"},
		{interval{1.04, 1.02, 1.06}, withinNoise},
		{interval{1.20, 0.90, 1.50}, "no difference shown"},
	} {
		if got := verdict(tt.ratio, floor); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.ratio, got, tt.want)
		}
	}
}

func silent(string, ...any) {}

func TestGrowth(t *testing.T) {
	floor := interval{0, -2, 3}
	for _, tt := range []struct {
		slope interval
		want  string
	}{
		{interval{9, 8, 10}, "grows"},
		{interval{-9, -10, -8}, "shrinks"},
		{interval{4, 3, 5}, withinNoise},
		{interval{9, -1, 20}, "no growth shown"},
	} {
		if got := growth(tt.slope, floor); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.slope, got, tt.want)
		}
	}
}

// TestRaceOrder shows that of two entries each comes first as often as the other, and that one that
// fails is left out and leaves the pairs of the others whole.
func TestRaceOrder(t *testing.T) {
	var order []string
	of := func(name string, err error) entry {
		return entry{name, func() (sample, error) {
			order = append(order, name)
			return sample{values: map[string]float64{secPerOp: float64(len(order))}}, err
		}}
	}
	const n = 100
	race(silent, []entry{of("a", nil), of("b", nil)}, n)
	order = order[2:] // the round that is not counted
	first := 0
	for round := range n {
		if order[2*round] == "a" {
			first++
		}
	}
	if first != n/2 {
		t.Errorf("a comes first in %d of %d rounds", first, n)
	}

	lanes := race(silent, []entry{of("a", nil), of("bad", errors.New("no")), of("b", nil)}, 5)
	if len(lanes) != 2 || lanes[1].impl != "b" {
		t.Fatalf("%+v", lanes)
	}
	for _, l := range lanes {
		if len(l.values[secPerOp]) != 5 || !slices.IsSorted(l.values[secPerOp]) {
			t.Errorf("%+v", l)
		}
	}
}
